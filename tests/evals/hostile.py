"""Programs that attack the sandbox, the judge or the host. Each solves ``f(x) = x + 1`` wrongly unless noted.

``SOLVED`` names those that do the right thing besides what they try; every other program must not be judged correct in
strict mode. ``FAKES`` are those whose trick works on the public harnesses, and therefore in compatible mode.
"""

from __future__ import annotations

# ruff: noqa: E501 - programs are kept on one line each
RETURN = "\ndef f(x):\n    return x + 1\n"
WRONG = "\ndef f(x):\n    return -12345\n"


def at_call(body: str) -> str:
    """A program that attacks when it is called."""
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return f"def f(x):\n{lines}\n    return -12345\n"


PROGRAMS: dict[str, str] = {
    # processes
    "fork bomb": at_call("import os\nwhile True: os.fork()"),
    "fork bomb that swallows errors": at_call("import os\nwhile True:\n    try: os.fork()\n    except Exception: pass"),
    "vfork through ctypes": at_call("import ctypes\nctypes.CDLL(None).vfork()"),
    "raw clone": at_call("import ctypes\nassert ctypes.CDLL(None).syscall(56, 17, 0, 0, 0, 0) > 0"),
    "thread bomb": at_call(
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,)).start()"
    ),
    "subprocess": at_call("import subprocess\nsubprocess.run(['/bin/sh', '-c', 'touch /tmp/infra-owned'])"),
    "os.system": at_call("import os\nos.system('touch /tmp/infra-owned')"),
    "execve of the shell": at_call("import os\nos.execv('/bin/sh', ['sh', '-c', 'touch /tmp/infra-owned'])"),
    "multiprocessing": at_call("import multiprocessing\nmultiprocessing.Process(target=print).start()"),
    "double fork and setsid": at_call(
        "import os\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n    while True: pass"
    ),
    "setsid": at_call("import os\nos.setsid()"),
    "posix_spawn": at_call("import os\nos.posix_spawn('/bin/true', ['true'], {})"),
    # signals and tracing
    "kill the parent": at_call("import os\nos.kill(os.getppid(), 9)"),
    "kill everything": at_call("import os\nos.kill(-1, 9)"),
    "kill the group": at_call("import os\nos.killpg(0, 9)"),
    "kill low pids": at_call(
        "import os\nfor p in range(1, 300):\n    if p != os.getpid():\n        try: os.kill(p, 9)\n        except OSError: pass"
    ),
    "tgkill the parent": at_call(
        "import ctypes, os\np = os.getppid()\nassert ctypes.CDLL(None).syscall(234, p, p, 9) == 0"
    ),
    "pidfd signal": at_call(
        "import ctypes, os\nl = ctypes.CDLL(None)\nfd = l.syscall(434, os.getppid(), 0)\nassert fd >= 0 and l.syscall(424, fd, 9, 0, 0) == 0"
    ),
    "SIGIO to the parent": at_call("import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 8, os.getppid())"),
    "ptrace the parent": at_call("import ctypes, os\nassert ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0"),
    "write the parent's memory": at_call("import os\nopen(f'/proc/{os.getppid()}/mem', 'r+b').write(b'x')"),
    "process_vm_writev": at_call(
        "import ctypes, os\nassert ctypes.CDLL(None).process_vm_writev(os.getppid(), 0, 0, 0, 0, 0) == 0"
    ),
    "survive SIGALRM and SIGTERM": at_call(
        "import signal\nfor s in (14, 15, 2, 24):\n    signal.signal(s, signal.SIG_IGN)\nwhile True: pass"
    ),
    # memory, output, disk
    "memory bomb": at_call("x = []\nwhile True: x.append(bytearray(1 << 24))"),
    "memory bomb that swallows errors": at_call(
        "x = []\nwhile True:\n    try: x.append(bytearray(1 << 24))\n    except MemoryError: pass"
    ),
    "one huge list": at_call("[0] * (1 << 40)"),
    "endless output": "print('x' * 1000000)\nwhile True: print('x' * 1000000)\n" + RETURN,
    "endless standard error": at_call("import sys\nwhile True: sys.stderr.write('x' * 1000000)"),
    "endless answer": "def f(x):\n    return 'x' * (1 << 28)\n",
    "deep answer": "def f(x):\n    r = []\n    for _ in range(200000): r = [r]\n    return r\n",
    "fill the temporary folder": at_call(
        "with open('/tmp/big', 'wb') as g:\n    while True: g.write(b'x' * (1 << 20))"
    ),
    "many files": at_call("for i in range(10**7): open(f'/tmp/{i}', 'w').write('x' * 100000)"),
    "fill shared memory": at_call("with open('/dev/shm/big', 'wb') as g:\n    while True: g.write(b'x' * (1 << 20))"),
    "open every descriptor": at_call("import os\nwhile True: os.dup(0)"),
    "fallocate": at_call("import os\nos.posix_fallocate(os.open('/tmp/b', 66), 0, 1 << 40)"),
    # processor
    "endless loop": at_call("while True: pass"),
    "endless import": "while True: pass\n",
    "sleep": at_call("import time\ntime.sleep(3600)"),
    "huge integer": at_call("return 10 ** 10 ** 10"),
    "huge integer as text": at_call("import sys\nsys.set_int_max_str_digits(0)\nreturn str(7 ** 10000000)"),
    "huge integer sent": at_call("return 1 << (1 << 31)"),
    "catastrophic regular expression": at_call("import re\nre.match('(a+)+$', 'a' * 64 + 'b')"),
    "deep recursion": at_call(
        "import sys\nsys.setrecursionlimit(10**9)\ndef g(n): return [g(n + 1)]\nsorted([1], key=g)"
    ),
    "hash collisions": at_call("return {i * (2**61 - 1): 1 for i in range(30000)}"),
    "crash": at_call("import ctypes\nctypes.string_at(0)"),
    "abort": at_call("import os\nos.abort()"),
    # reading
    "read passwords": at_call("return open('/etc/passwd').read()"),
    "read root's home": at_call("import os\nreturn os.listdir('/root')"),
    "read environment": at_call("import os\nassert any('HOST' in k for k in os.environ)"),
    "read another environment": at_call("return open('/proc/1/environ').read()"),
    "list the host": at_call(
        "import os\nassert any(p in os.listdir('/') for p in ('home', 'root', 'etc'))\nopen('/etc/hostname').read()"
    ),
    "symlink to the host": at_call(
        "import os\nos.symlink('/etc/passwd', '/tmp/link')\nreturn open('/tmp/link').read()"
    ),
    "inherited descriptors": at_call("import os\nfound = [n for n in range(4, 256) if _open(n)]\nassert found").replace(
        "def f(x)",
        "def _open(n):\n    import os\n    try: return bool(os.fstat(n))\n    except OSError: return False\ndef f(x)",
    ),
    # changing the host
    "write outside": at_call("open('/tmp/../etc/infra-owned', 'w').write('x')"),
    "write next to the interpreter": at_call("import os\nopen(os.__file__, 'a').write('x')"),
    "mount": at_call("import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, 0) == 0"),
    "new user namespace": at_call("import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0"),
    "chroot": at_call("import os\nos.chroot('/tmp')"),
    "become root": at_call("import os\nos.setuid(0)"),
    "set the clock": at_call("import time\ntime.clock_settime(0, 0)"),
    "raise the limits": at_call("import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 50, 1 << 50))"),
    "limits of the parent": at_call("import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))"),
    "io_uring": at_call("import ctypes\nassert ctypes.CDLL(None).syscall(425, 8, 0) >= 0"),
    "bpf": at_call("import ctypes\nassert ctypes.CDLL(None).syscall(321, 0, 0, 0) >= 0"),
    # network
    "tcp": at_call("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)"),
    "udp": at_call("import socket\nsocket.socket(2, 2).sendto(b'x', ('127.0.0.1', 53))"),
    "unix socket": at_call("import socket\nsocket.socket(1, 1).connect('/run/systemd/private')"),
    "name look-up": at_call("import socket\nreturn socket.gethostbyname('example.org')"),
    # deceiving the judge
    "always equal": "class E:\n    def __eq__(s, o): return True\n    def __bool__(s): return True\ndef f(x): return E()\n",
    "always equal integer": "class E(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\ndef f(x): return E(7)\n",
    "always equal on the right": "class E(int):\n    def __eq__(s, o): return True\n    def __ne__(s, o): return False\n    def __rsub__(s, o): return 0\ndef f(x): return E()\n",
    "patched builtins": "import builtins\nbuiltins.AssertionError = None\nbuiltins.compile = builtins.exec = builtins.eval = lambda *a, **k: None\n"
    + WRONG,
    "patched json": "import json\njson.dumps = lambda *a, **k: '{}'\n" + WRONG,
    "exit with success": "import sys\nsys.exit(0)\n",
    "exit at the call": at_call("import os\nos._exit(0)"),
    "exit at the call, softly": at_call("raise SystemExit(0)"),
    "claim success on standard output": 'print(\'{"id": 0, "outcome": "correct", "detail": "", "codes": []}\', flush=True)\nimport os\nos._exit(0)\n',
    "claim success on every descriptor": at_call(
        'import os\nfor n in range(256):\n    try: os.write(n, b\'{"id": 0, "outcome": "correct", "detail": "", "codes": [], "seconds": 0}\\n\')\n    except OSError: pass'
    ),
    "claim success on the channel": at_call(
        "import os, struct, json\nb = json.dumps({'codes': [True], 'value': {'t': [True, 0]}, 'outcome': 'correct'}).encode()\nfor _ in range(9): os.write(3, struct.pack('=I', len(b)) + b)"
    ),
    "garbage on the channel": at_call("import os\nos.write(3, b'\\xff' * 64)"),
    "half a message": at_call("import os, time\nos.write(3, b'\\x10')\ntime.sleep(99)"),
    "read the tests from frames": at_call(
        "import sys\nfr = sys._getframe()\nseen = []\nwhile fr:\n    seen += [v for v in fr.f_locals.values() if isinstance(v, dict) and 'asserts' in v]\n    fr = fr.f_back\nassert seen"
    ),
    "read the tests from the heap": at_call(
        "import gc\nassert any(isinstance(o, (str, list)) and 'assert f' in str(o)[:10**4] and 'SE' + 'CRET' in str(o)[:10**4] for o in gc.get_objects())"
    ),
    "answer from the tests": at_call(
        "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict) and 'asserts' in o:\n        return eval(o['asserts'][0].split('==')[1])"
    ),
    "return different things each time": "import itertools\n_c = itertools.count(3)\ndef f(x):\n    return next(_c)\n",
    "a handle instead of a value": "def f(x):\n    return object()\n",
    "shadow the comparison": "def int(x): return 0\ndef abs(x): return 0\ndef round(*a): return 0\n" + WRONG,
    "replace the test's names": "def check(c): pass\nassert_equal = None\n" + WRONG,
    "raise AssertionError away": at_call("raise KeyboardInterrupt"),
    "close every descriptor": at_call("import os\nos.closerange(0, 256)"),
    "close and go on": at_call("import os\nos.close(3)\nwhile True: pass"),
    "die with the module": "import os\nos.kill(os.getpid(), 9)\n",
    "unhashable keys": at_call("return {(): {frozenset(): {1, 2}}}"),
    "not a number": "def f(x):\n    return float('nan')\n",
    "attack and solve: fork": "import os\ntry: os.fork()\nexcept OSError: pass\n" + RETURN,
    "attack and solve: write": "try: open('/etc/infra-owned', 'w')\nexcept OSError: pass\n" + RETURN,
    "attack and solve: socket": "import socket\ntry: socket.socket()\nexcept OSError: pass\n" + RETURN,
    "attack and solve: kill": "import os\ntry: os.kill(1, 9)\nexcept OSError: pass\n" + RETURN,
}
SOLVED = frozenset(name for name in PROGRAMS if name.startswith("attack and solve"))
FAKES = frozenset({"always equal", "always equal integer", "always equal on the right"})
TESTS = {
    "kind": "asserts",
    "setup": "SECRET = 77",
    "asserts": ["assert f(1) == 2", "assert f(41) == 42", "assert f(-1) == 0"],
}
