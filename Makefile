# A thin front of CMake and tools/: `make help` lists what it does.
ifeq ($(origin CC),default)
CC := clang
endif
PREFIX ?= /usr/local
DESTDIR ?=
PEER ?=
BUILD := build
MODEL := smollm2-135m
TEST_MODELS := smollm2-135m gemma3-270m minilm
ALL_MODELS := $(TEST_MODELS) qwen2.5-coder-0.5b qwen2.5-coder-1.5b

.PHONY: help setup build run test test-all bench exercise deb deb-check install sanitize format clean

help:
	@echo "make run        set up, build, fetch a small model (98 MB) and chat with it"
	@echo "make test       set up, build, fetch the test models (450 MB) and run every test"
	@echo "make test-all   the same, with the two larger models (1.6 GB more)"
	@echo "make setup      install the Debian packages that building and testing need"
	@echo "make build      $(BUILD)/nibble, $(BUILD)/libnibble.a, $(BUILD)/libnibble.so (CC=gcc for the other compiler)"
	@echo "make bench      measure; PEER=/path/to/llama-bench compares on this machine"
	@echo "make exercise   run every command of docs/exercise.md and compare what comes out"
	@echo "make deb        Debian packages in build-deb/, looked at by lintian (make deb-check: installed in a fresh Debian, too)"
	@echo "make install    into PREFIX (default /usr/local), below DESTDIR"
	@echo "make sanitize   the tests under ASan+UBSan and under TSan"
	@echo "make format     clang-format over all C files"
	@echo "make clean      remove every build folder (models stay in the cache)"

setup:
	@tools/setup test

build:
	@cmake -G Ninja -S . -B $(BUILD) -DCMAKE_C_COMPILER=$(CC) >/dev/null
	@ninja -C $(BUILD) --quiet

run:
	@tools/setup run
	@$(MAKE) --no-print-directory build
	@model=$$(tools/fetch-model $(MODEL)) && \
	if [ -t 0 ] && [ -t 1 ]; then exec $(BUILD)/nibble run "$$model"; \
	else exec $(BUILD)/nibble run "$$model" -n 256 "Why is the sky blue?" </dev/null; fi

test:
	@tools/setup test
	@tools/fetch-model $(TEST_MODELS) >/dev/null
	@tools/fetch-text >/dev/null
	@tools/fetch-clients >/dev/null
	@CC=$(CC) tools/run-tests

test-all:
	@tools/setup test
	@tools/fetch-model $(ALL_MODELS) >/dev/null
	@tools/fetch-text >/dev/null
	@tools/fetch-clients >/dev/null
	@CC=$(CC) tools/run-tests --all

bench: build
	@ninja -C $(BUILD) --quiet benches
	@bench/run $(if $(PEER),--peer "$(PEER)")

exercise:
	@tools/setup test
	@$(MAKE) --no-print-directory build
	@tools/run-exercise

deb:
	@tools/setup deb
	@tools/make-deb

deb-check:
	@tools/setup deb
	@tools/make-deb --check

install: build
	@DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)" --strip

sanitize:
	@tools/setup test
	@tools/run-tests --only asan,tsan

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	@rm -rf $(BUILD) $(BUILD)-*
