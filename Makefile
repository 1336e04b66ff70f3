# Every target is one line of dev.py, which needs only Python and git.
run test lint types docs setup:
	python3 dev.py $@
.PHONY: run test lint types docs setup
