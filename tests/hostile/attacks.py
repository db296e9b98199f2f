"""What a hostile cell may try, and what has to come of it.

Each attack runs in a fresh sandbox after a cell that binds ``keep`` and the names below. Then a
last cell looks whether ``keep`` is still there.

    HOME      directory with a secret file, ``.ssh/key``, and a file ``victim``, open to all
    PORT, UX  where the server listens: TCP on loopback, and a local socket, both open to all
    SERVER    process id of the server
    DATA      descriptor of the socket to the server
    RESCUE    descriptor of the socket to the guardian, None where there is none
    frame(d)  writes an object to the server as a frame
    token()   finds the running cell's token
    libc      the C library
"""
# ruff: noqa: E501

from __future__ import annotations

import dataclasses
import textwrap

PRELUDE = """
import ctypes, json, os, signal, socket, stat, struct, sys, threading, time
DATA = llm_query.__self__._channel._socket.fileno()
RESCUE = None
for _fd in range(3, 100):
    try:
        if stat.S_ISSOCK(os.fstat(_fd).st_mode) and _fd != DATA:
            RESCUE = _fd
    except OSError:
        pass
def frame(d):
    b = d if isinstance(d, bytes) else json.dumps(d).encode()
    os.write(DATA, struct.pack('>I', len(b)) + b)
def token():
    f = sys._getframe()
    while 'order' not in f.f_locals:
        f = f.f_back
    return f.f_locals['order']['token']
libc = ctypes.CDLL(None, use_errno=True)
def call(*a):
    r = libc.syscall(*[ctypes.c_long(x) if isinstance(x, int) else x for x in a])
    print('result', r, ctypes.get_errno())
keep = 123
print('scratch', os.getcwd())
"""

STOPPED = r"^(timeout|cancelled)\b"
DENIED = r"PermissionError|FileNotFoundError|OSError: \[Errno 30\]"
DIED = r"^died\b"


@dataclasses.dataclass(frozen=True)
class Attack:
    name: str
    code: str
    expect: str
    """Regular expression that has to match "status | error | output"."""
    kept: bool | None = True
    """Whether ``keep`` has to survive; None: either is right."""
    seconds: float = 60.0
    """After which it is stopped; most end by themselves long before."""
    next_seconds: float = 120.0
    """After which the cell that follows is stopped; less where the attack still keeps it busy."""
    fast: bool = False
    """Whether it belongs to the subset that always runs."""
    contained_only: bool = True
    """False: expected in ``none`` mode too."""


def _attack(name: str, code: str, expect: str, **options: object) -> Attack:
    return Attack(name, textwrap.dedent(code), expect, **options)  # type: ignore[arg-type]


NETWORK = [
    _attack(
        "tcp", "socket.create_connection(('127.0.0.1', PORT), 1)", "PermissionError", fast=True
    ),
    _attack("tcp-bind", "socket.socket().bind(('127.0.0.1', 0))", "PermissionError"),
    _attack(
        "udp",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
        "PermissionError",
        fast=True,
    ),
    _attack("dns", "socket.getaddrinfo('example.com', 80)", "gaierror|PermissionError"),
    _attack(
        "urllib",
        "import urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{PORT}/')",
        "URLError|PermissionError",
    ),
    _attack("unix", "socket.socket(socket.AF_UNIX).connect(UX)", "PermissionError", fast=True),
    _attack("unix-abstract", "socket.socket(socket.AF_UNIX).connect('\\0x')", "PermissionError"),
    _attack(
        "datagram-pair",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'x', UX)",
        "PermissionError",
        fast=True,
    ),
    _attack(
        "seqpacket-pair",
        "socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)",
        "PermissionError",
    ),
    _attack("netlink", "socket.socket(16, socket.SOCK_RAW, 0)", "PermissionError"),
    _attack("send-to-address", "a, b = socket.socketpair()\na.sendto(b'x', UX)", "PermissionError"),
    _attack(
        "sendmsg", "a, b = socket.socketpair()\na.sendmsg([b'x'], [], 0, UX)", "PermissionError"
    ),
    _attack("io_uring", "call(425, 8, ctypes.create_string_buffer(256))", r"result -1 1\b"),
    _attack("x32-abi", "call(0x40000000 | 41, 2, 1, 0)", r"result -1 38\b"),
    _attack(
        "int80-socket",
        """
        import mmap
        code = bytes.fromhex('b867010000bb02000000b901000000ba00000000cd80c3')
        m = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
        m.write(code)
        print('ret', ctypes.CFUNCTYPE(ctypes.c_long)(
            ctypes.addressof(ctypes.c_char.from_buffer(m)))())
        """,
        DIED + r"|ret -",
    ),
]

FILES = [
    _attack("read-key", "print(open(HOME + '/.ssh/key').read())", DENIED, fast=True),
    _attack("read-passwd", "print(open('/etc/passwd').read())", DENIED, fast=True),
    _attack("read-shadow", "print(open('/etc/shadow').read())", DENIED),
    _attack("read-server-environment", "print(open(f'/proc/{SERVER}/environ').read())", DENIED),
    _attack("read-server-memory", "print(open(f'/proc/{SERVER}/mem', 'rb').read(1))", DENIED),
    _attack("read-own-memory-map", "print(open('/proc/self/maps').read())", DENIED),
    _attack(
        "read-own-environment", "print('E', sorted(os.environ))", r"E \['HOME', 'LANG'", fast=True
    ),
    _attack("list-home", "print(os.listdir(HOME))", DENIED),
    _attack("list-root", "print(os.listdir('/'))", r"PermissionError|\["),
    _attack("list-tmp", "print(os.listdir('/tmp'))", DENIED),
    _attack(
        "symlink-out",
        "os.symlink(HOME + '/.ssh/key', 'l'); print(open('l').read())",
        DENIED,
        fast=True,
    ),
    _attack("dot-dot", "print(open('../' * 20 + HOME[1:] + '/.ssh/key').read())", DENIED),
    _attack("hard-link", "os.link(HOME + '/.ssh/key', 'h'); print(open('h').read())", "Error"),
    _attack("proc-root", "print(open('/proc/self/root' + HOME + '/.ssh/key').read())", DENIED),
    _attack("proc-cwd", "print(open('/proc/1/cwd' + HOME + '/.ssh/key').read())", DENIED),
    _attack("write-home", "open(HOME + '/new', 'w')", DENIED, fast=True),
    _attack("write-tmp", "open('/tmp/rlm-hostile', 'w')", DENIED),
    _attack("write-shm", "open('/dev/shm/rlm-hostile', 'w')", DENIED),
    _attack("write-library", "open(os.__file__, 'a')", DENIED + "|Read-only"),
    _attack("append-victim", "open(HOME + '/victim', 'a').write('x')", DENIED),
    _attack("truncate-victim", "os.truncate(HOME + '/victim', 0)", DENIED, fast=True),
    _attack("open-truncate-victim", "os.open(HOME + '/victim', os.O_RDONLY | os.O_TRUNC)", DENIED),
    _attack(
        "mode-three-truncate-victim", "os.open(HOME + '/victim', 3 | os.O_TRUNC)", DENIED, fast=True
    ),
    _attack(
        "openat2",
        "call(437, -100, b'/etc/passwd', ctypes.create_string_buffer(24), 24)",
        r"result -1 38\b",
    ),
    _attack(
        "chmod-victim",
        "os.chmod(HOME + '/victim', 0o600); os.utime(HOME + '/victim', (1, 1))",
        r"^ok|FileNotFoundError",
        fast=True,
    ),
    _attack("xattr-victim", "os.setxattr(HOME + '/victim', 'user.x', b'y')", "PermissionError"),
    _attack("unlink-victim", "os.unlink(HOME + '/victim')", DENIED),
    _attack("rename-victim", "os.rename(HOME + '/victim', HOME + '/moved')", DENIED),
    _attack(
        "mknod", "os.mknod('device', 0o600 | stat.S_IFCHR, os.makedev(1, 3))", "PermissionError"
    ),
    _attack("mount", "call(165, b'none', b'/tmp', b'tmpfs', 0, None)", r"result -1 1\b"),
    _attack("chroot", "os.chroot('.')", "PermissionError"),
    _attack(
        "open-by-handle", "call(304, -100, ctypes.create_string_buffer(64), 0)", r"result -1 1\b"
    ),
    _attack(
        "descriptors",
        """
        n = 0
        for fd in range(3, 200):
            try: n += stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISSOCK(os.fstat(fd).st_mode)
            except OSError: pass
        print('open', n)
        """,
        r"open [12]\b",
        fast=True,
    ),
    _attack(
        "write-context-memory",
        "ctypes.memset(ctypes.c_size_t.from_address(id(context) + str.__basicsize__ - 8).value, 0, 1)",
        DIED,
        fast=True,
        contained_only=False,
    ),
    _attack(
        "unprotect-context",
        """
        at = ctypes.c_size_t.from_address(id(context) + str.__basicsize__ - 8).value & ~4095
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        print('mprotect', libc.mprotect(at, 4096, 3), ctypes.get_errno())
        """,
        r"mprotect -1 13",
        contained_only=False,
    ),
]

PROCESSES = [
    _attack("signal-server", "os.kill(SERVER, signal.SIGUSR1)", "PermissionError", fast=True),
    _attack("signal-all", "os.kill(-1, 9)", "PermissionError"),
    _attack("signal-parent", "os.kill(os.getppid(), 9)", "PermissionError", fast=True),
    _attack("signal-first", "os.kill(1, 9)", "PermissionError"),
    _attack("signal-group", "os.killpg(0, 9)", "PermissionError"),
    _attack("signal-by-thread", "call(234, SERVER, SERVER, 10)", r"result -1 1\b"),
    _attack(
        "signal-queue", "call(129, SERVER, 10, ctypes.create_string_buffer(128))", r"result -1 1\b"
    ),
    _attack("signal-by-pidfd", "os.pidfd_open(SERVER)", "PermissionError"),
    _attack(
        "signal-by-owner",
        # F_SETSIG and F_SETOWN make the kernel send any signal to any process of the user.
        """
        import fcntl
        a, b = socket.socketpair()
        fcntl.fcntl(a, 10, signal.SIGUSR1)
        fcntl.fcntl(a, 8, SERVER)
        fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC)
        b.send(b'x')
        """,
        "PermissionError",
        fast=True,
    ),
    _attack(
        "signal-by-ioctl",
        "import fcntl\na, b = socket.socketpair()\nfcntl.ioctl(a, 0x8901, struct.pack('i', SERVER))",
        "OSError",
    ),
    _attack("ptrace", "call(101, 16, SERVER, 0, 0)", r"result -1 1\b"),
    _attack("process-memory", "call(310, SERVER, None, 0, None, 0, 0)", r"result -1 1\b"),
    _attack("renice-server", "os.setpriority(os.PRIO_PROCESS, SERVER, 19)", "PermissionError"),
    _attack(
        "limit-server",
        "import resource; resource.prlimit(SERVER, resource.RLIMIT_CPU, (1, 1))",
        "PermissionError",
    ),
    _attack(
        "raise-own-limit",
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))",
        "Error",
    ),
    _attack("setuid", "os.setuid(0)", "PermissionError"),
    _attack("setsid", "os.setsid()", "PermissionError"),
    _attack("new-user-namespace", "call(272, 0x10000000)", r"result -1 1\b", fast=True),
    _attack("clone-namespace", "call(56, 0x10000000 | 17, 0, 0, 0, 0)", r"result -1 1\b"),
    _attack("clone3", "call(435, ctypes.create_string_buffer(88), 88)", r"result -1 38\b"),
    _attack("keyctl", "call(250, 0, -3, 1)", r"result -1 1\b"),
    _attack("bpf", "call(321, 0, ctypes.create_string_buffer(64), 64)", r"result -1 1\b"),
    _attack("own-filter", "call(317, 1, 0, None)", r"result -1 1\b"),
    _attack("survive-parent", "call(157, 1, 0, 0, 0, 0)", r"result -1 1\b"),
    _attack("fork", "print(os.fork())", "PermissionError", fast=True),
    _attack(
        "fork-bomb",
        """
        n = 0
        for _ in range(1000):
            try:
                if os.fork() == 0: time.sleep(100)
                n += 1
            except OSError: break
        print('forks', n)
        """,
        r"forks 0\b",
    ),
    _attack(
        "subprocess",
        "import subprocess; subprocess.run(['/bin/sh', '-c', 'id'])",
        "PermissionError",
        fast=True,
    ),
    _attack("system", "print('rc', os.system('id'))", r"rc -1|rc [1-9]|PermissionError"),
    _attack("exec", "os.execv('/bin/true', ['true'])", "PermissionError|FileNotFoundError"),
    _attack(
        "thread-bomb",
        """
        n = 0
        try:
            while n < 5000:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start(); n += 1
        except (RuntimeError, MemoryError) as e: print('threads', n, e)
        """,
        r"threads \d+",
        seconds=20,
    ),
    _attack(
        "steal-the-checkpoint",
        # A thread of an earlier cell tries to use the one fork that the next cell is granted.
        """
        def thief():
            while True:
                try:
                    if os.fork() == 0:
                        while True: time.sleep(1)
                except OSError: pass
        for _ in range(4): threading.Thread(target=thief, daemon=True).start()
        """,
        r"^ok",
        kept=None,
    ),
]

RESOURCES = [
    _attack(
        "memory",
        "x = []\nwhile True: x.append(bytearray(16 << 20))",
        "MemoryError",
        seconds=30,
        fast=True,
        contained_only=False,
    ),
    _attack(
        "memory-small",
        "x = []\nwhile True: x.append([0] * 1000)",
        "MemoryError|^died",
        seconds=30,
        contained_only=False,
    ),
    _attack("memory-at-once", "'x' * (1 << 40)", "MemoryError", contained_only=False),
    _attack(
        "memory-shared",
        "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 64 << 20))",
        "PermissionError",
    ),
    _attack("memory-memfd", "os.memfd_create('x')", "PermissionError"),
    _attack("memory-sysv", "call(29, 0, 1 << 20, 0o1600)", r"result -1 1\b"),
    _attack("memory-zero-device", "open('/dev/zero', 'rb')", DENIED),
    _attack("memory-userfaultfd", "call(323, 0)", r"result -1 1\b"),
    _attack(
        "memory-pipes",
        """
        n = 0
        try:
            while True:
                r, w = os.pipe(); os.set_blocking(w, False); n += 1
                try:
                    while True: os.write(w, b'x' * 65536)
                except BlockingIOError: pass
        except OSError as e: print('pipes', n, e)
        """,
        r"pipes \d{1,2} ",
    ),
    _attack(
        "pipe-size",
        "import fcntl\nr, w = os.pipe()\nfcntl.fcntl(w, 1031, 1 << 20)",
        "PermissionError",
    ),
    _attack(
        "scratch-one-file",
        "f = open('big', 'wb')\nfor i in range(600): f.write(b'x' * (1 << 20))",
        r"OSError|^limit",
        seconds=20,
        contained_only=False,
    ),
    _attack(
        "scratch-many-files",
        "for i in range(10 ** 6): open(f'f{i}', 'w').write('x' * 5000)",
        r"OSError|^limit",
        seconds=30,
        fast=True,
        contained_only=False,
    ),
    _attack(
        "scratch-deleted-files",
        """
        files = []
        while True:
            f = open('x', 'wb'); os.unlink('x'); files.append(f)
            for _ in range(8): f.write(b'x' * (1 << 20))
        """,
        r"OSError|^limit",
        seconds=30,
        contained_only=False,
    ),
    _attack(
        "scratch-deep",
        """
        while True:
            os.mkdir('d'); os.chdir('d')
            open('f', 'wb').write(b'x' * 100_000)
        """,
        r"OSError|^limit",
        seconds=30,
        contained_only=False,
    ),
    _attack(
        "descriptors-out",
        "x = []\nwhile True: x.append(open('/dev/null'))",
        r"OSError: \[Errno 24\]",
        contained_only=False,
    ),
    _attack(
        "processor-time", "while True: pass", r"^limit.*CpuLimit", seconds=30, contained_only=False
    ),
]

STOPPING = [
    _attack("loop", "while True: pass", STOPPED, seconds=0.15, fast=True, contained_only=False),
    _attack(
        "loop-swallow",
        "while True:\n  try: time.sleep(0.001)\n  except BaseException: pass",
        STOPPED,
        seconds=0.15,
        fast=True,
        contained_only=False,
    ),
    _attack(
        "loop-ignore",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "loop-mask",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "loop-c-sum", "sum(range(10 ** 13))", STOPPED, seconds=0.15, fast=True, contained_only=False
    ),
    _attack(
        "loop-c-regex",
        "import re; re.match(r'(a+)+$', 'a' * 50 + 'b')",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack("loop-c-pow", "x = 7 ** (10 ** 9)", STOPPED, seconds=0.15, contained_only=False),
    _attack(
        "loop-str",
        "class E(Exception):\n  def __str__(self):\n    while True: pass\nraise E()",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "loop-repr",
        "class R:\n  def __repr__(self):\n    while True: pass\nR()",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "loop-del",
        "class D:\n  def __del__(self):\n    while True: pass\nD()\nNone",
        STOPPED + "|^ok",
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "loop-answer",
        "class S:\n  def __str__(self):\n    while True: pass\nanswer['content'] = S()",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "loop-thread",
        "threading.Thread(target=lambda: sum(range(10 ** 13)), daemon=True).start()\nprint('over')",
        r"over|^timeout",
        seconds=0.15,
        contained_only=False,
    ),
    _attack("sleep", "time.sleep(100)", STOPPED, seconds=0.15, contained_only=False),
    _attack(
        "lock",
        "l = threading.Lock(); l.acquire(); l.acquire()",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "recursion",
        "sys.setrecursionlimit(10 ** 9)\ndef f(): f()\nf()",
        DIED + "|RecursionError|MemoryError|^timeout",
        seconds=0.5,
        contained_only=False,
    ),
    _attack("exit", "sys.exit(0)", "SystemExit", contained_only=False),
    _attack("hard-exit", "os._exit(0)", DIED, fast=True, contained_only=False),
    _attack("segfault", "ctypes.string_at(1)", DIED, fast=True, contained_only=False),
    _attack("abort", "os.abort()", DIED, contained_only=False),
    _attack(
        "exit-later",
        "threading.Timer(0.05, os._exit, [0]).start()\nNone",
        r"^ok|^died",
        kept=None,
        contained_only=False,
    ),
    _attack(
        "alarm-later",
        "signal.setitimer(signal.ITIMER_REAL, 0.02)\nNone",
        r"^ok",
        contained_only=False,
    ),
    _attack("close-everything", "os.closerange(0, 100)", DIED, kept=None, contained_only=False),
    _attack(
        "shut-the-socket",
        "socket.socket(fileno=os.dup(DATA)).shutdown(2)\nwhile True: pass",
        DIED,
        kept=True,
        contained_only=False,
    ),
    _attack(
        "break-builtins",
        "import builtins; builtins.print = lambda *a: 1 / 0; builtins.len = builtins.isinstance = None; json.dumps = json.loads = None",
        ".",
        kept=None,
        contained_only=False,
    ),
    _attack(
        "trace-everything",
        "def t(*a):\n  while True: pass\nsys.settrace(t); threading.settrace(t)\ndef g(): pass\ng()",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
]

CHANNEL = [
    _attack(
        "output-flood",
        "while True: print('x' * 1000)",
        r"^limit.*OutputLimit",
        seconds=20,
        fast=True,
        contained_only=False,
    ),
    _attack(
        "output-at-once",
        "print('x' * (1 << 27))",
        r"^limit.*OutputLimit|MemoryError",
        seconds=20,
        contained_only=False,
    ),
    _attack("output-escapes", "print('\\x1b]0;pwn\\x07\\x1b[2J')", "^ok", contained_only=False),
    _attack("output-surrogates", "print('\\ud800\\0')", "\ufffd\u2400", contained_only=False),
    _attack(
        "frame-garbage",
        "os.write(DATA, b'\\xff' * 4096)\nwhile True: pass",
        "protocol",
        fast=True,
        contained_only=False,
    ),
    _attack(
        "frame-4-gb",
        "os.write(DATA, b'\\xff\\xff\\xff\\xff')\nwhile True: pass",
        "protocol",
        contained_only=False,
    ),
    _attack(
        "frame-half",
        "os.write(DATA, b'\\x00\\x10\\x00\\x00abc')\nwhile True: pass",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "frame-deep", "frame(b'[' * 100_000)\nwhile True: pass", "protocol", contained_only=False
    ),
    _attack(
        "frame-types",
        "frame({'type': 'call', 'id': 'x', 'function': 1})\nwhile True: pass",
        "protocol",
        fast=True,
        contained_only=False,
    ),
    _attack(
        "frame-pickle",
        "import pickle; frame(pickle.dumps(print))\nwhile True: pass",
        "protocol",
        contained_only=False,
    ),
    _attack(
        "forged-end",
        "frame({'type': 'done', 'token': token(), 'error': '', 'answer': 'f', 'ready': True})\nwhile True: pass",
        r"^ok",
        kept=None,
        next_seconds=0.5,
        fast=True,
        contained_only=False,
    ),
    _attack(
        "forged-end-of-next",
        "frame({'type': 'done', 'token': 'guess', 'error': '', 'answer': 'f', 'ready': True})",
        r"^ok",
        contained_only=False,
    ),
    _attack(
        "forged-restoration",
        "frame({'type': 'restored', 'ending': 0})\nwhile True: pass",
        STOPPED,
        seconds=0.15,
        contained_only=False,
    ),
    _attack(
        "call-flood",
        "while True: llm_query_batched(['x'] * 1000)",
        STOPPED,
        seconds=0.4,
        contained_only=False,
    ),
    _attack("call-too-long", "llm_query('x' * 9_000_000)", "ValueError", contained_only=False),
    _attack(
        "call-context",
        "llm_query(context * 40)",
        "ValueError|MemoryError|^ok",
        contained_only=False,
    ),
    _attack(
        "call-after-cell",
        "def f():\n  time.sleep(0.2); llm_query('late')\nthreading.Thread(target=f, daemon=True).start()",
        "^ok",
        contained_only=False,
    ),
    _attack(
        "call-never-read",
        """
        for i in range(1500):
            frame({'type': 'call', 'id': i, 'function': 'llm_query', 'prompt': 'big', 'model': None,
                   'token': token()})
        while True: pass
        """,
        STOPPED,
        seconds=0.5,
        fast=True,
        contained_only=False,
    ),
    _attack(
        "fake-commit",
        "for fd in (DATA, RESCUE):\n  if fd: os.write(fd, b'M')\nwhile True: pass",
        STOPPED + "|protocol",
        seconds=0.15,
        kept=None,
    ),
    _attack(
        "guardian-flood",
        """
        def w():
            while True:
                try: os.write(RESCUE or DATA, b'A' * 65536)
                except OSError: pass
        for _ in range(4): threading.Thread(target=w, daemon=True).start()
        w()
        """,
        STOPPED + "|protocol",
        seconds=0.4,
        kept=None,
        next_seconds=0.5,
        fast=True,
    ),
    _attack(
        "guardian-descriptors",
        """
        import array
        s = socket.socket(fileno=os.dup(RESCUE or DATA))
        s.sendmsg([b'L'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1, 1]))])
        """,
        "PermissionError",
    ),
    _attack(
        "server-descriptors",
        """
        import array
        s = socket.socket(fileno=os.dup(DATA))
        s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [1] * 50))])
        """,
        "PermissionError",
    ),
    _attack(
        "steal-the-rescue",
        "threading.Thread(target=lambda: os.read(RESCUE, 1), daemon=True).start() if RESCUE else 0\nos._exit(1)",
        DIED,
    ),
    _attack(
        "streams-gone",
        "sys.stdout = None; sys.stderr = None; print('x')",
        "^ok",
        contained_only=False,
    ),
    _attack(
        "unpicklable",
        "l = threading.Lock(); g = (i for i in range(3)); next(g); f = lambda: g",
        "^ok",
        contained_only=False,
    ),
]

ATTACKS = [*NETWORK, *FILES, *PROCESSES, *RESOURCES, *STOPPING, *CHANNEL]
