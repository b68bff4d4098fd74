# The library headers that most files include, compiled once: they are a third of what a compiler reads here. Only for
# g++ and the release build; the other presets, the second compiler among them, compile each file by its own includes,
# so that one which is missing is found.
option(PENSTOCK_PRECOMPILE "Compile common library headers once (g++)" OFF)
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "GNU" OR PENSTOCK_SANITIZE)
  set(PENSTOCK_PRECOMPILE OFF)
endif()

# penstock_prefix_library(NAME OPTIONS compile options... HEADERS headers...)
function(penstock_prefix_library name)
  cmake_parse_arguments(ARG "" "" "OPTIONS;HEADERS" ${ARGN})
  add_library(${name} STATIC ${CMAKE_SOURCE_DIR}/cmake/prefix.cpp)
  target_compile_options(${name} PRIVATE ${ARG_OPTIONS})
  target_link_libraries(${name} PRIVATE penstock_flags fmt::fmt)
  target_precompile_headers(${name} PRIVATE ${ARG_HEADERS})
endfunction()

if(PENSTOCK_PRECOMPILE)
  # ccache can tell a precompiled header's contents only if the preprocessor leaves its mark.
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  set(headers <algorithm> <array> <chrono> <cstdint> <deque> <functional> <map> <memory> <optional> <span> <string>
    <string_view> <unordered_map> <unordered_set> <utility> <variant> <vector> <fmt/format.h>)
  penstock_prefix_library(penstock_prefix HEADERS ${headers})
  penstock_prefix_library(penstock_test_prefix OPTIONS $<$<CONFIG:Release>:-O1> -fPIE
    HEADERS ${headers} <doctest/doctest.h>)
  set_target_properties(penstock_test_prefix PROPERTIES POSITION_INDEPENDENT_CODE OFF)
endif()

function(penstock_use_prefix target prefix)
  if(PENSTOCK_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM ${prefix})
  endif()
endfunction()
