# Everything comes from Debian's packages; scripts/install-packages names them.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(Boost 1.81 CONFIG REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED COMPONENTS core)
pkg_check_modules(simdjson REQUIRED IMPORTED_TARGET simdjson)
pkg_check_modules(xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(tomlplusplus REQUIRED tomlplusplus)

# toml++ is used header-only: with the shared library its exceptions would be a run-time dependency.
add_library(penstock_toml INTERFACE)
target_include_directories(penstock_toml SYSTEM INTERFACE ${tomlplusplus_INCLUDE_DIRS})

# Asio and Beast without deprecated parts; one setting for all units, or the ODR breaks. What is no template in them
# is compiled once: that takes a third off every unit that includes them.
add_library(penstock_asio STATIC ${CMAKE_CURRENT_SOURCE_DIR}/cmake/boost_impl.cpp)
target_compile_definitions(penstock_asio PUBLIC BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_COROUTINE
  BOOST_ASIO_SEPARATE_COMPILATION BOOST_BEAST_SEPARATE_COMPILATION)
target_link_libraries(penstock_asio PUBLIC Boost::boost Threads::Threads)

# llhttp: Debian 13 has the library (9.2); Debian 12 ships the C sources inside node-llhttp (8.1).
find_path(LLHTTP_INCLUDE llhttp.h PATHS /usr/include /usr/share/include/llhttp REQUIRED)
find_library(LLHTTP_LIBRARY llhttp)
add_library(penstock_llhttp INTERFACE)
target_include_directories(penstock_llhttp SYSTEM INTERFACE ${LLHTTP_INCLUDE})
if(LLHTTP_LIBRARY)
  target_link_libraries(penstock_llhttp INTERFACE ${LLHTTP_LIBRARY})
else()
  file(GLOB LLHTTP_SOURCES /usr/share/llhttp/*.c)
  add_library(llhttp_sources STATIC ${LLHTTP_SOURCES})
  target_include_directories(llhttp_sources SYSTEM PRIVATE ${LLHTTP_INCLUDE})
  target_compile_definitions(llhttp_sources PRIVATE LLHTTP_STRICT_MODE=1)
  target_compile_options(llhttp_sources PRIVATE -w)
  target_link_libraries(penstock_llhttp INTERFACE llhttp_sources)
  target_compile_definitions(penstock_llhttp INTERFACE LLHTTP_STRICT_MODE=1)
endif()
