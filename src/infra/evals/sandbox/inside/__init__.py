"""What runs inside the sandbox: standard library only, loaded by an isolated interpreter of its own.

Three kinds of process, none of which trusts the next:

- the *judge* (``main``, ``judge``) reads jobs and holds the tests. It never runs the program under test.
- the *zygote* forks candidates on request. It was forked before any test was read, so no candidate's memory
ever
  held one.
- a *candidate* runs one program under a seccomp filter, a Landlock domain and resource limits of its own.
It knows
  inputs only and answers with plain data; the judge compares.
"""
