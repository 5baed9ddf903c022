# The steps of scriptorium as targets of GNU make. Use this file directly, or include it:
#
#     include scriptorium.mk
#
# 'make scriptorium-help' lists the targets. A pipe has the exit status of its last step, as in any
# shell; the other steps report their failures on stderr.

SCRIPTORIUM ?= scriptorium

# restored at the end, so that an including Makefile keeps its default goal
scriptorium-goal := $(.DEFAULT_GOAL)

define scriptorium-usage
scriptorium-health     run the gate on a clean checkout of master
scriptorium-architect  spec.md -> areas
scriptorium-manager    areas -> tickets
scriptorium-assign     the oldest ready ticket -> branch and worktree
scriptorium-code       assign | code
scriptorium-merge      the queue's next item -> master, if the gate passes
scriptorium-pipeline   assign | code | merge
scriptorium-run        run all steps in a loop until stopped
scriptorium-run-once   run each step once
scriptorium-plan       write spec.md in a session with the Architect
scriptorium-status     show ticket counts and active agents
scriptorium-worktrees  list the worktrees of tickets
scriptorium-fsck       check the plan branch
endef

.PHONY: scriptorium-help
scriptorium-help:
	@:$(info $(scriptorium-usage))

scriptorium-verbs := health architect manager assign run plan status worktrees fsck

.PHONY: $(scriptorium-verbs:%=scriptorium-%)
$(scriptorium-verbs:%=scriptorium-%): scriptorium-%:
	@$(SCRIPTORIUM) $*

.PHONY: scriptorium-code scriptorium-merge scriptorium-pipeline scriptorium-run-once
scriptorium-code:
	@$(SCRIPTORIUM) assign | $(SCRIPTORIUM) code

# without a pipe before it, merge must not wait for records from make's stdin
scriptorium-merge:
	@$(SCRIPTORIUM) merge </dev/null

scriptorium-pipeline:
	@$(SCRIPTORIUM) assign | $(SCRIPTORIUM) code | $(SCRIPTORIUM) merge

scriptorium-run-once:
	@$(SCRIPTORIUM) run --once

ifneq ($(words $(MAKEFILE_LIST)),1)
.DEFAULT_GOAL := $(scriptorium-goal)
endif
