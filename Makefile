# Tessera. `make` alone lists the targets. Needed: Go, make, git; a C compiler for the race detector where there is one.

JSON ?=
DIR ?= .lab
FUZZTIME ?= 10s
SEED ?= 1

# Packages that hold a lab test, or one on a real node: found, not listed, so that a new one cannot be forgotten.
LAB_PACKAGES = $(sort $(dir $(shell find . -name '*_lab_test.go' -not -path './tools/*')))
REAL_PACKAGES = $(sort $(dir $(shell find . -name '*_real_test.go' -not -path './tools/*')))
# Programs of others that tests run, each a module of its own.
THIRD = $(sort $(dir $(wildcard bench/third/*/go.mod)))
# Tests run with -vet=off: lint vets, and go test would compute vet's facts of all of Kubernetes a second time.
# The race detector needs cgo and a C compiler. RACE is -race where both are there.
RACE = $$(test "$$(go env CGO_ENABLED)" = 1 && command -v $$(go env CC | cut -d' ' -f1) >/dev/null 2>&1 && echo -race)

.DEFAULT_GOAL := help
.PHONY: help demo test test-unit test-lab test-real conformance lint fix build bench chaos lab fuzz smoke tools planes third clean

help: ## Show this list
	@echo 'Tessera: many Kubernetes clusters as one pool. Targets:'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s  %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: JSON=FILE (demo, bench) DIR=FOLDER (lab) FUZZTIME=10s (fuzz) SEED=1 (bench)'

demo: ## Show the fragmentation story on real control planes; JSON=FILE writes the figures
	@go run ./bench/launch demo $(if $(JSON),--json $(JSON))

test: test-unit test-lab test-real ## Run every test

test-unit: bin/gotestsum ## Run the tests without processes, with the race detector where a C compiler is found
	@test -n "$(RACE)" || echo 'SKIP race detector: no cgo or no C compiler (see go env CGO_ENABLED CC); the tests run without it'
	@# bench/planes is the whole of Kubernetes and has no test: with -race it would be compiled a second time.
	packages=$$(go list ./...) && bin/gotestsum --format pkgname -- -vet=off -short $(RACE) $$(echo "$$packages" | grep -v '/bench/planes$$')

# Tests with a lab of their own wait most of their time, and run two at a time once those that share one are through.
test-lab: bin/gotestsum ## Run the tests on real control planes (child processes on loopback)
ifeq ($(LAB_PACKAGES),)
	@echo 'SKIP test-lab: no package has a *_lab_test.go file'
else
	bin/gotestsum --format standard-verbose -- -vet=off -p 1 -count=1 -parallel 2 -timeout 40m $(LAB_PACKAGES)
endif

# The tests named TestReal..., which the other targets skip. Most of their time they wait for a process: so side by side.
test-real: bin/gotestsum ## Run the tests on a node with kubelet, containerd and runc, or say why this machine cannot have one
	@why=$$(sh bench/lab/realnode/prepare.sh) || why="bench/lab/realnode/prepare.sh failed $$why"; \
	if test -n "$$why"; then echo "SKIP test-real: $$why"; exit 0; fi; \
	TESSERA_REAL=1 bin/gotestsum --format standard-verbose -- -vet=off -p 1 -count=1 -parallel 8 -timeout 20m -run '^TestReal' $(REAL_PACKAGES)

conformance: bin/gotestsum ## Run Kubernetes' own specs on virtual nodes, and write docs/conformance.md (half an hour)
	TESSERA_REAL=1 TESSERA_CONFORMANCE=1 bin/gotestsum --format standard-verbose -- -vet=off -count=1 -timeout 90m -run '^TestRealConformance$$' ./virtualnode

lint: bin/golangci-lint ## Check style, imports, tidiness and the house rules
	bin/golangci-lint run ./...
	go mod tidy -diff
	cd tools && go mod tidy -diff
	@# Of these the form alone: a linter would look at all that their few lines link, for minutes.
	bin/golangci-lint fmt --diff bench/third
	@set -e; for module in $(THIRD); do echo "$$module"; (cd $$module && go mod tidy -diff); done
	go test -vet=off -count=1 ./internal/house

fix: bin/golangci-lint ## Repair what lint can repair by itself: format, imports, tidiness
	bin/golangci-lint run --fix ./...
	go mod tidy
	cd tools && go mod tidy
	bin/golangci-lint fmt bench/third
	@set -e; for module in $(THIRD); do (cd $$module && go mod tidy); done

build: ## Build the product binary, bin/tessera
	go build -o bin/tessera .

bench: ## Print figures: the fragmentation simulation and the Go benchmarks
	@go run ./bench/launch frag --seed $(SEED) $(if $(JSON),--json $(JSON))
	@found=$$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -r -n 1 dirname | sort -u); \
	if test -n "$$found"; then go test -run '^$$' -bench . -benchmem $$found; else echo 'SKIP Go benchmarks: there is none'; fi

chaos: bin/gotestsum ## Run the lab tests in their long form: every round, real times (an hour)
	TESSERA_CHAOS=1 bin/gotestsum --format standard-verbose -- -vet=off -p 1 -count=1 -parallel 2 -timeout 180m $(LAB_PACKAGES)

lab: ## Start a lab in DIR that stays up until Ctrl-C
	@go run ./bench/launch lab up --dir $(DIR)

# Go 1.26 may call the end of FUZZTIME a failure, "context deadline exceeded" without a failing input (golang/go#75804, mended
# in 1.27): that one is passed over, and said.
fuzz: ## Run every fuzz target, and the comparison with kube-scheduler's plugins on new seeds, for FUZZTIME
	@found=$$(grep -rlE --include='*_test.go' '^func Fuzz' . | xargs -r -n 1 dirname | sort -u); \
	test -n "$$found" || echo 'SKIP fuzz: there is no fuzz target'; \
	out=$$(mktemp); trap 'rm -f "$$out"' EXIT; \
	for package in $$found; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$package/*_test.go); do \
			echo "$$package $$target"; \
			go test -vet=off -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$package >"$$out" 2>&1; status=$$?; \
			tail -n 30 "$$out"; \
			test $$status = 0 && continue; \
			if grep -q 'Failing input written' "$$out" || ! grep -q '^ *context deadline exceeded$$' "$$out"; then exit 1; fi; \
			echo "$$target found nothing; its end at FUZZTIME counted as a failure is golang/go#75804"; \
		done; \
	done
	go test -vet=off -count=1 -run '^TestFitIsTheSchedulersFit$$' -v ./internal/exact -args -fit-for $(FUZZTIME) -fit-seed $$(date +%s)

smoke: demo ## Run the demo, a small simulation and a small load; all fail unless the outcome is right
	go run ./bench/launch frag --seed 1 --clusters 3 --nodes 60 --pods 1500
	go run ./bench/launch load --only hints --pods 60 --rounds 1

planes: ## Compile the control planes for labs ahead of time (cold: minutes)
	go list -export -deps -p 4 ./bench/planes >/dev/null

third: ## Build what labs run ahead of time, also programs of others (cold: minutes, less after make planes)
	@set -e; for module in $(THIRD); do echo "$$module"; (cd $$module && go list -export -deps -p 4 . >/dev/null); done
	go run ./bench/launch lab build

tools: bin/golangci-lint bin/gotestsum ## Build the pinned development tools into bin/

clean: ## Remove what was built here (the lab's cached binary stays)
	rm -rf bin

bin/golangci-lint: tools/go.mod tools/go.sum
	go build -C tools -buildvcs=false -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/gotestsum: tools/go.mod tools/go.sum
	go build -C tools -buildvcs=false -o ../$@ gotest.tools/gotestsum
