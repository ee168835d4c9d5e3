# Every target calls a command of hack/, which does the work and can be called without make.
IMAGE ?= docker.io/manxnet/manx:v0.1.0
NAME ?= manx
NODES ?= 3
SIZE ?= full

.PHONY: help up down dev bare show image test bench properties conformance policies lock generate

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

up: ## a real cluster on this machine with Manx as its network, and the show (NAME=, NODES=)
	./hack/up --name $(NAME) --nodes $(NODES)

bare: ## the same without Manx
	./hack/up --bare --name $(NAME) --nodes $(NODES)

dev: ## the same with Manx from the working tree; after a change: ./hack/labctl dev-restart
	./hack/up --dev --name $(NAME) --nodes $(NODES)

show: ## the show again, on a lab that is up
	./hack/labctl show --name $(NAME)

down: ## take the lab down and leave nothing behind
	./hack/down --name $(NAME)

image: ## Manx's image for a registry of your own (IMAGE=registry/name:tag, BASE=, ENGINE=docker|podman|buildah)
	./hack/labctl image --image $(IMAGE) $(if $(BASE),--base $(BASE)) $(if $(ENGINE),--engine $(ENGINE))

test: ## every check and every test
	./hack/test

bench: ## measure everything, each figure beside its floor (SIZE=quick|full BENCH="--only cni")
	./hack/bench/run --size $(SIZE) $(BENCH)

properties: ## what must hold of policy, on random clusters for as long as one likes (MINUTES=60 SEED=)
	./hack/properties $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

conformance: ## an outside suite against a lab (SUITE=e2e, cyclonus or a path; ARGS='...' MINUTES=60 LAB=name)
	./hack/conformance/run $(if $(SUITE),--suite $(SUITE)) $(if $(ARGS),--args='$(ARGS)') $(if $(MINUTES),--minutes $(MINUTES)) $(if $(LAB),--name $(LAB))

policies: ## every policy on real packets, all connections, and clusters of chance for as long as you like (SEEDS=0:500)
	./hack/policies $(SEEDS)

generate: ## write crds/ and what else is generated
	./hack/generate

lock: ## write requirements.lock and requirements-runtime.lock
	./hack/lock
