"""What runs inside the sandbox: standard library only, loaded by an isolated interpreter of its own.

Four kinds of process, none of which trusts the next:

- the *supervisor* (``main``, ``supervisor``) reads jobs and forks a judge for each. It ends one that overruns a limit.
- a *judge* (``judge``, ``testcode``) holds the tests of one job. It never runs the program under test, and is as
  bounded as the program is.
- the *zygote* forks candidates on request. It was forked before any test was read, so no candidate's memory ever
  held one.
- a *candidate* runs one program under a seccomp filter, a Landlock domain and resource limits of its own. It knows
  inputs only and answers with plain data; the judge compares.
"""
