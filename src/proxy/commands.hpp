// The subcommands of `penstock`; main() picks one. Each takes the arguments behind its name and returns the
// exit code.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "penstock/config.hpp"

namespace penstock {

using arguments = std::span<const std::string>;

int serve_command(arguments args);
int check_command(arguments args);
int explain_command(arguments args);
int demo_command(arguments args);

// What the command is for, on stdout and with exit code 0 where `args` ask for it, else on stderr and 1.
int usage(arguments args, std::string_view text);

// A file's bytes. Where it cannot be read, says why on stderr.
std::optional<std::string> read_file(const std::string& path);

// Reads a configuration file and says on stderr what is wrong or suspicious in it. Null when it cannot be
// used.
std::shared_ptr<const config> read_configuration(const std::string& file);

// Asks every endpoint of a configuration and says on stdout what is wrong or missing. 0: nothing serious.
int check_live(const std::shared_ptr<const config>& settings);

// Runs a proxy with its admin listener until it drained, on the calling thread. `greeting` is told the
// data and admin addresses once both listen. `reread` names the file for SIGHUP; empty: no reload.
struct running_addresses {
  std::string data, admin;
};
int run_proxy(std::shared_ptr<const config> settings, const std::string& reread,
              void (*greeting)(const running_addresses&));

}  // namespace penstock
