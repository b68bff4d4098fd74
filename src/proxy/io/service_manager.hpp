// The service manager's notifications (systemd's sd_notify protocol), without its library.
#pragma once

#include <string_view>

namespace penstock::io {

// Sends one state, such as "READY=1" or "STOPPING=1", to $NOTIFY_SOCKET. Nothing happens without one.
void notify_service_manager(std::string_view state);

}  // namespace penstock::io
