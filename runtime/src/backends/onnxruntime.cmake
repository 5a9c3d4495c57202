# libisa_onnxruntime: graphs on the CPU, or with CUDA where ONNX Runtime has its provider.
find_path(ONNXRUNTIME_INCLUDE_DIR onnxruntime_c_api.h PATH_SUFFIXES onnxruntime onnxruntime/core/session
  DOC "Where onnxruntime_c_api.h lies: of ONNX Runtime 1.13 or newer, and no newer than the library")
find_library(ONNXRUNTIME_LIBRARY onnxruntime DOC "libonnxruntime.so, or a wheel's libonnxruntime.so.VERSION")
if(NOT ONNXRUNTIME_INCLUDE_DIR OR NOT ONNXRUNTIME_LIBRARY)
  message(STATUS "isa: no backend onnxruntime: its header or library was not found; take a release of "
    "https://github.com/microsoft/onnxruntime (wheels have no headers) and give -DONNXRUNTIME_INCLUDE_DIR=.../include "
    "-DONNXRUNTIME_LIBRARY=.../lib/libonnxruntime.so")
  return()
endif()
file(STRINGS ${ONNXRUNTIME_INCLUDE_DIR}/onnxruntime_c_api.h version REGEX "^#define ORT_API_VERSION [0-9]+")
string(REGEX MATCH "[0-9]+" version "${version}")
if(NOT version OR version LESS 13)
  message(STATUS "isa: no backend onnxruntime: ${ONNXRUNTIME_INCLUDE_DIR}/onnxruntime_c_api.h is of API ${version}; "
    "13 or newer is needed")
  return()
endif()
message(STATUS "isa: backend onnxruntime with ${ONNXRUNTIME_LIBRARY} and the headers of 1.${version}")
add_library(isa_onnxruntime MODULE
  src/backends/onnxruntime.cpp
  src/backends/onnxruntime_session.cpp
  src/sha256.cpp)
target_include_directories(isa_onnxruntime PRIVATE include src)
target_include_directories(isa_onnxruntime SYSTEM PRIVATE ${ONNXRUNTIME_INCLUDE_DIR})
target_link_libraries(isa_onnxruntime PRIVATE isa_build_options ${ONNXRUNTIME_LIBRARY} Threads::Threads)
if(CMAKE_SYSTEM_NAME STREQUAL "Linux")
  target_link_options(isa_onnxruntime PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/src/backends/backend.map)
  set_target_properties(isa_onnxruntime PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/backends/backend.map)
  # a wheel has the library without the name that programs ask for at start
  get_filename_component(folder ${ONNXRUNTIME_LIBRARY} DIRECTORY)
  if(NOT EXISTS ${folder}/libonnxruntime.so.1)
    file(CREATE_LINK ${ONNXRUNTIME_LIBRARY} ${PROJECT_BINARY_DIR}/libonnxruntime.so.1 SYMBOLIC)
    set_target_properties(isa_onnxruntime PROPERTIES BUILD_RPATH ${PROJECT_BINARY_DIR})
    if(ISA_INSTALL)
      install(FILES ${PROJECT_BINARY_DIR}/libonnxruntime.so.1 DESTINATION ${CMAKE_INSTALL_LIBDIR})
    endif()
  endif()
endif()
