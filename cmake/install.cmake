# What `make install` puts where, beside the two programs.
install(DIRECTORY include/sight DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
if(EXISTS ${CMAKE_SOURCE_DIR}/models/mini/model.safetensors)
  install(DIRECTORY models/mini DESTINATION ${CMAKE_INSTALL_DATADIR}/sightd/models)
endif()
file(GLOB man_pages CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/docs/man/*.1 ${CMAKE_SOURCE_DIR}/docs/man/*.8)
foreach(page ${man_pages})
  string(REGEX MATCH "[0-9]$" section ${page})
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
configure_file(${CMAKE_SOURCE_DIR}/systemd/sightd.service.in ${CMAKE_BINARY_DIR}/sightd.service @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/sightd.service DESTINATION lib/systemd/system)
install(FILES ${CMAKE_SOURCE_DIR}/systemd/sightd.conf DESTINATION ${CMAKE_INSTALL_DOCDIR})

# libsight for programs: one shared library that exports sight_* alone, and its pkg-config file.
add_library(libsight SHARED ${client_sources} ${base_sources} ipc/wire.c ipc/text.c ipc/endpoint.c
  ipc/key.c ipc/zpl.c)
set_target_properties(libsight PROPERTIES OUTPUT_NAME sight VERSION ${PROJECT_VERSION} SOVERSION 0
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/clients/c/libsight.map)
target_include_directories(libsight PRIVATE ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/include)
target_link_libraries(libsight PRIVATE sight_flags PkgConfig::ZMQ PkgConfig::JANSSON Threads::Threads m)
target_link_options(libsight PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/clients/c/libsight.map)
configure_file(${CMAKE_SOURCE_DIR}/clients/c/sight.pc.in ${CMAKE_BINARY_DIR}/sight.pc @ONLY)
install(TARGETS libsight LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${CMAKE_BINARY_DIR}/sight.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
