// The compiled half of Asio and Beast, once for the program: see dependencies.cmake.
#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
