#include "proxy/io/listeners.hpp"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/io/socket_address.hpp"
#include "unit/proxy/io/scratch.hpp"

using namespace penstock;
using namespace penstock::io;

namespace {

bool answers(const std::string& path) {
  const kernel_address at = to_kernel({.kind = net_address::family::unix_path, .path = path});
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  const bool yes = ::connect(fd, reinterpret_cast<const sockaddr*>(&at.storage), at.size) == 0;
  ::close(fd);
  return yes;
}

bool exists(const std::string& path) {
  struct stat what {};
  return ::lstat(path.c_str(), &what) == 0;
}

}  // namespace

TEST_CASE("listeners: a free port, told where it really is; a busy one is named with a hint") {
  listeners one, two;
  CHECK(one.open("127.0.0.1:0").empty());
  REQUIRE(one.descriptors().size() == 1);
  const std::string at = one.local(0);
  CHECK(at.rfind("127.0.0.1:", 0) == 0);
  CHECK(at != "127.0.0.1:0");
  const std::string why = two.open(at);
  CHECK(why.find("cannot listen on " + at) == 0);
  CHECK(why.find("ss -ltnp") != std::string::npos);
  CHECK(two.descriptors().empty());
  one.close();
  CHECK(two.open(at).empty());
}

TEST_CASE("listeners: a name is all of its addresses, and taken where one of them is") {
  // "localhost" is such a name: a second process must not get the family that the first one left.
  const auto at = [](std::uint8_t last, std::uint16_t port) {
    return to_kernel({.kind = net_address::family::ipv4, .ip = {127, 0, 0, last}, .port = port});
  };
  const kernel_address foreign = to_kernel({.kind = net_address::family::ipv4, .ip = {192, 0, 2, 1}});
  listeners one, two;
  const kernel_address some[] = {foreign, at(1, 0), at(2, 0)};
  REQUIRE(one.open_each(some, "name:0").empty());
  REQUIRE(one.descriptors().size() == 2);
  const auto taken = static_cast<std::uint16_t>(std::stoi(one.local(0).substr(10)));
  const kernel_address again[] = {at(3, 0), at(1, taken), at(4, 0)};
  CHECK(two.open_each(again, "name:1").find("cannot listen on name:1") == 0);
  CHECK(two.descriptors().empty());
  CHECK_FALSE(two.open_each(std::span(&foreign, 1), "name:2").empty());
}

TEST_CASE("listeners: addresses that are none") {
  listeners l;
  CHECK_FALSE(l.open("nonsense").empty());
  CHECK_FALSE(l.open("127.0.0.1:99999").empty());
  CHECK_FALSE(l.open("192.0.2.1:0").empty());  // not ours (TEST-NET-1)
  CHECK(l.descriptors().empty());
}

TEST_CASE("listeners: a unix socket is made, answers and is removed") {
  const scratch dir;
  const std::string path = dir.path("s");
  {
    listeners l;
    CHECK(l.open("unix:" + path).empty());
    CHECK(l.local(0) == "unix:" + path);
    CHECK(answers(path));
  }
  CHECK_FALSE(exists(path));
}

TEST_CASE("listeners: a left-over socket file is replaced, a living one and other files are not") {
  const scratch dir;
  const std::string path = dir.path("s");
  {
    const kernel_address at = to_kernel({.kind = net_address::family::unix_path, .path = path});
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    REQUIRE(::bind(fd, reinterpret_cast<const sockaddr*>(&at.storage), at.size) == 0);
    ::close(fd);  // as a process that was killed leaves it
  }
  REQUIRE(exists(path));
  listeners l;
  CHECK(l.open("unix:" + path).empty());
  CHECK(answers(path));
  listeners second;
  CHECK(second.open("unix:" + path).find("cannot listen on unix:" + path) == 0);
  CHECK(answers(path));

  const std::string file = dir.path("precious");
  std::ofstream(file) << "data";
  CHECK_FALSE(second.open("unix:" + file).empty());
  CHECK(read_file(file) == "data");
}

TEST_CASE("listeners: unix paths that cannot be say why") {
  listeners l;
  CHECK(l.open("unix:/no/such/directory/s").find("No such file or directory") != std::string::npos);
  CHECK(l.open("unix:/" + std::string(200, 'x')).find("longer than") != std::string::npos);
}
