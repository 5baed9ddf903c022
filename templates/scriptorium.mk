# The steps of scriptorium as targets of GNU make. Use it as it is, or include it:
#
#     include scriptorium.mk
#
# 'make scriptorium-help' lists the targets. In a pipe, the last step's exit status counts, as
# in any shell; the others tell their failures on stderr.

SCRIPTORIUM ?= scriptorium

# put back at the end, so that an including Makefile keeps its own
scriptorium-goal := $(.DEFAULT_GOAL)

define scriptorium-usage
scriptorium-health     run the gate on a clean checkout of master
scriptorium-architect  spec.md -> areas
scriptorium-manager    areas -> tickets
scriptorium-assign     the oldest ready ticket -> branch and worktree
scriptorium-code       assign | code
scriptorium-merge      the queue's next item -> master, if the gate passes
scriptorium-pipeline   assign | code | merge
scriptorium-run        chain all the steps until stopped
scriptorium-run-once   one pass of them
scriptorium-plan       write spec.md in a session with the Architect
scriptorium-status     show ticket counts and who is at work
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

# without a pipe before it, it is not to wait for records from make's stdin
scriptorium-merge:
	@$(SCRIPTORIUM) merge </dev/null

scriptorium-pipeline:
	@$(SCRIPTORIUM) assign | $(SCRIPTORIUM) code | $(SCRIPTORIUM) merge

scriptorium-run-once:
	@$(SCRIPTORIUM) run --once

ifneq ($(words $(MAKEFILE_LIST)),1)
.DEFAULT_GOAL := $(scriptorium-goal)
endif
