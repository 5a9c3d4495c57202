# The TensorRT backend over stand-ins for libcudart and libnvinfer: a machine that no GPU is needed for.
add_library(isa_standin_cudart SHARED standin/world.cpp standin/cuda.cpp)
add_library(isa_standin_nvinfer SHARED standin/nvinfer.cpp)
target_link_libraries(isa_standin_nvinfer PUBLIC isa_standin_cudart)
foreach(target isa_standin_cudart isa_standin_nvinfer)
  target_include_directories(${target} PUBLIC standin/include)
  target_link_libraries(${target} PRIVATE isa_build_options Threads::Threads)
  set_target_properties(${target} PROPERTIES CXX_VISIBILITY_PRESET default
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/standin)
endforeach()

# In a folder of its own: nobody else's "auto" shall find it.
add_library(isa_tensorrt_standin MODULE ${ISA_TENSORRT_SOURCES})
isa_tensorrt_target(isa_tensorrt_standin)
target_include_directories(isa_tensorrt_standin SYSTEM PRIVATE standin/include)
target_link_libraries(isa_tensorrt_standin PRIVATE isa_standin_nvinfer isa_standin_cudart)
set_target_properties(isa_tensorrt_standin PROPERTIES PREFIX lib OUTPUT_NAME isa_tensorrt
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/standin)

add_executable(test_tensorrt test_tensorrt.cpp)
target_include_directories(test_tensorrt PRIVATE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
# it counts what the backend allocates, by an operator new of its own that the backend has to see; GCC takes the pair of
# new and free for a mistake (its bug 103993)
set_target_properties(test_tensorrt PROPERTIES CXX_VISIBILITY_PRESET default)
target_compile_options(test_tensorrt PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-mismatched-new-delete>)
target_link_libraries(test_tensorrt PRIVATE isa_build_options isa_standin_nvinfer isa_standin_cudart Threads::Threads
  ${CMAKE_DL_LIBS})
add_dependencies(test_tensorrt isa_tensorrt_standin)
# hundreds of runs in one thread, each with another call that fails, have no races to show
if(ISA_SANITIZE STREQUAL "thread")
  set(chosen "-whichever call")
endif()
add_test(NAME test_tensorrt COMMAND test_tensorrt ${chosen})
set_tests_properties(test_tensorrt PROPERTIES TIMEOUT 120
  ENVIRONMENT ISA_TEST_BACKEND=$<TARGET_FILE:isa_tensorrt_standin>)
