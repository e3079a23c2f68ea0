# A thin front for CMake: the targets people type. `make help` lists them.

BUILD ?= build
ASAN_BUILD ?= build-asan
ARM64_BUILD ?= build-arm64
JOBS ?= $(shell nproc)
CMAKE_FLAGS ?=
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: help deps build test asan fuzz demo install clean

help:
	@echo "make demo      install what is missing, build, ask the bundled model"
	@echo "make build     build sightd and sight into $(BUILD)/"
	@echo "make test      build and run all tests, then again under ASan and UBSan, and for arm64"
	@echo "make fuzz      run each fuzz target for a minute (clang)"
	@echo "make install   PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)"

deps:
	@tools/install-deps.sh

build: deps
	@cmake -S . -B $(BUILD) -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) >$(BUILD).log 2>&1 \
	  || { cat $(BUILD).log; exit 1; }
	@mv $(BUILD).log $(BUILD)/configure.log
	@cmake --build $(BUILD) -j $(JOBS)

test: deps
	@tools/run-tests.sh $(BUILD) $(ASAN_BUILD) $(ARM64_BUILD) $(JOBS)

fuzz: deps
	@tools/run-fuzz.sh build-fuzz 60

demo: deps
	@tools/demo.sh $(BUILD)

install: build
	@DESTDIR=$(DESTDIR) cmake --install $(BUILD)

clean:
	@rm -rf $(BUILD) $(ASAN_BUILD) $(ARM64_BUILD) build-fuzz
