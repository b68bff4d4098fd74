#!/usr/bin/env python3
"""Checks the shape of the tree: who includes whom, purity, sizes, and what may stand in a file.

usage: rooms.py              all text checks, after the self-test of every rule
       rooms.py --headers    every header compiles alone (env CXX, default g++; JOBS)
       rooms.py --self-test  only shows that each rule fires

The matrix is the one of ARCHITECTURE.md ("Rooms"); src/CMakeLists.txt may not link more than it allows.
Only the standard library is used. The C++ is not parsed, it is scanned: comments and literals are
blanked, then braces are followed. That is enough for code in this project's style.
"""
import concurrent.futures
import os
import re
import subprocess
import sys
from collections import namedtuple

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

Room = namedtuple("Room", "folder may_include pure")
PURE = ["tokenizer", "routing", "health", "emulator_model", "config", "http", "handoff", "flow", "worker"]
ROOMS = {
    "include": Room("include/penstock", [], True),
    "tokenizer": Room("src/tokenizer", ["include"], True),
    "routing": Room("src/routing", ["include"], True),
    "health": Room("src/health", ["include"], True),
    "emulator_model": Room("src/emulator/model", ["include"], True),
    "config": Room("src/proxy/config", ["include"], True),
    "http": Room("src/proxy/http", ["include"], True),
    "handoff": Room("src/proxy/handoff", ["include"], True),
    "flow": Room("src/proxy/flow", ["include", "tokenizer", "routing", "health", "http", "handoff"], True),
    "worker": Room("src/proxy/worker", ["include", "tokenizer", "routing", "health", "http", "handoff", "flow"], True),
    "io": Room("src/proxy/io", ["include", *PURE], False),
    "admin": Room("src/proxy/admin", ["include", *PURE], False),
    "emulator_server": Room("src/emulator/server", ["include", *PURE], False),
}
ROOMS["main"] = Room("src/proxy", list(ROOMS), False)  # src/proxy/main.cpp and what stands beside it

# Third-party headers and the only rooms that may see them.
LIBRARIES = [
    (r"toml\+\+", ["config"], "toml++ ends at the config room: everybody else sees penstock::config"),
    (r"llhttp", ["http"], "llhttp's looseness is contained by the http room"),
    (r"nghttp2", ["http"], "HTTP/2 belongs to the http room"),
    (r"simdjson", ["tokenizer", "http", "health", "handoff", "emulator_server"], "JSON is read where bodies and engine answers are"),
    (r"prometheus/", ["admin"], "the metrics library ends at the admin room"),
    (r"boost/", ["io", "admin", "emulator_server", "main"], "Asio and Beast are for drivers"),
]

# What a pure room may not include, and why.
BANNED_HEADERS = [
    (r"thread|mutex|shared_mutex|condition_variable|future|stop_token|semaphore|latch|barrier|pthread\.h",
     "a pure room has no threads and no locks"),
    (r"random", "randomness is an argument (penstock/random.hpp)"),
    (r"iostream|fstream|ostream|istream|syncstream|filesystem", "a pure room does no I/O"),
    (r"ctime|time\.h", "time is an argument (penstock/time.hpp)"),
    (r"(sys|netinet|arpa|net|linux)/.*|unistd\.h|fcntl\.h|poll\.h|netdb\.h|dirent\.h", "a pure room makes no system call"),
    (r"c?signal(\.h)?|csetjmp|setjmp\.h", "signals belong to drivers"),
]
ATOMIC_FILES = ("src/routing/endpoint_board", "src/routing/prefix_table")

# What a pure room may not say, and why.
BANNED_WORDS = [
    (r"::\s*now\s*\(", "the kernel's time is an argument"),
    (r"\b(steady_clock|system_clock|high_resolution_clock|utc_clock|file_clock)\b", "the kernel's time is an argument"),
    (r"(?<![\w.>:])(::)?(std::)?(time|clock)\s*\(\s*(nullptr|NULL|0|&\w+)?\s*\)", "the kernel's time is an argument"),
    (r"\b(clock_gettime|gettimeofday|nanosleep|usleep|sleep_for|sleep_until)\b", "a pure room does not wait"),
    (r"\b(getenv|secure_getenv|setenv|environ)\b", "the environment is an argument"),
    (r"\b(random_device|mt19937(_64)?|default_random_engine)\b|(?<![\w.>:])(std::)?s?rand\s*\(",
     "randomness is an argument (penstock/random.hpp)"),
    (r"\bthread_local\b", "a pure room has no globals"),
    (r"\bstd::(thread|jthread|async|mutex|shared_mutex|condition_variable|call_once)\b", "a pure room has no threads"),
    (r"\bstd::(cout|cerr|clog|cin)\b|(?<![\w:.>])(std::)?f?printf\s*\(|\bfmt::print\s*\(|(?<![\w:.>])puts\s*\(",
     "a pure room does no I/O"),
    (r"(?<![\w>])::(socket|accept4?|connect|bind|send|recv|read|write|open|close|fork|exec\w+)\s*\(|\b(epoll_\w+|io_uring_\w+)\s*\(",
     "a pure room makes no system call"),
]
# Not in config: reading a file happens once, off the data path, and toml++ reports by exception.
NO_THROW = {"tokenizer", "routing", "http", "handoff", "flow", "worker", "include"}

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 70

# Spelled in pieces, so that this file does not contain what it forbids.
_PLACES = [r"(?<![\w./-])/" + r"work(?=[/\s\"'`),:;]|$)", r"\.\./" + "shared" + r"\b", r"/tmp/" + "helper"]
_HOSTS = ["pypi" + r"\.org", "pythonhosted" + r"\.org", "registry" + r"\.npmjs", "deb" + r"\.debian\.org",
          "proxy" + r"\.golang\.org", "static" + r"\.crates\.io"]
FORBIDDEN_TEXT = [
    (r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b", "finish it or file it; nothing is left open in the tree"),
    ("|".join(_PLACES), "the tree names no place outside itself"),
    ("|".join(_HOSTS), "package sources come from the machine's own settings"),
]

Finding = namedtuple("Finding", "path line text")


# ---- reading ----------------------------------------------------------------------------------------------

_LEX = re.compile(
    r'//[^\n]*|/\*.*?\*/|(?:u8|[uUL])?R"(?P<d>[^()\\\s]{0,16})\(.*?\)(?P=d)"|(?:u8|[uUL])?"(?:[^"\\\n]|\\.)*"'
    r"|(?<![0-9a-fA-F'])'(?:[^'\\\n]|\\.)+'", re.S)


def blank(source):
    """The source with comments and literals emptied; every character keeps its line."""
    def replace(match):
        text = match.group(0)
        if text.startswith("//") or text.startswith("/*"):
            return re.sub(r"[^\n]", " ", text)
        return '"' + re.sub(r"[^\n]", " ", text[1:-1]) + '"'
    return _LEX.sub(replace, source)


_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:<([^>\n]+)>|"([^"\n]+)")', re.M)


def includes(source):
    """(line, angled, quoted) of every #include that is not commented out."""
    without_comments = re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m.group(0)), source, flags=re.S)
    for match in _INCLUDE.finditer(without_comments):
        yield without_comments.count("\n", 0, match.start()) + 1, match.group(1), match.group(2)


def room_of(path):
    best = None
    for name, room in ROOMS.items():
        if path.startswith(room.folder + "/") and (best is None or len(room.folder) > len(ROOMS[best].folder)):
            best = name
    return best


def line_of(text, position):
    return text.count("\n", 0, position) + 1


# ---- scopes -----------------------------------------------------------------------------------------------

Scope = namedtuple("Scope", "kind line head")
Statement = namedtuple("Statement", "scope line text")

_TYPE_HEAD = re.compile(r"(?<![\w<,(])(class|struct|union|enum)\b(?!.*\)\s*(const|noexcept|override|final|->[^{]*)*\s*$)", re.S)


def _kind(head, parent):
    if re.search(r"\bnamespace\b", head) or re.search(r'\bextern\s*"', head):
        return "namespace"
    if parent in ("namespace", "class") and re.match(r"[^()]*$", re.sub(r"<[^<>]*>|alignas\s*\([^)]*\)|\[\[[^\]]*\]\]", "", head)) \
            and re.search(r"\b(class|struct|union|enum)\b", head) and "=" not in head:
        return "class"
    if parent in ("namespace", "class") and _TYPE_HEAD.search(head) and "(" not in head:
        return "class"
    if parent in ("namespace", "class") and "(" in head and not re.search(r"(?<![=!<>])=(?![=])\s*[^;]*$", _outside(head)):
        return "function"
    if parent in ("function", "block"):
        if re.search(r"\b(class|struct|union|enum)\b[^()]*$", head):
            return "class"
        return "block" if not head or head.rstrip().endswith((")", "else", "do", "try", ":", "{")) or \
            re.search(r"\)\s*(const|noexcept|mutable|->.*)*\s*$", head) or re.match(r"(case|default)\b", head) else "init"
    return "init"


def _outside(head):
    """head without what stands in brackets."""
    for _ in range(20):
        shorter = re.sub(r"\([^()]*\)|<[^<>]*>|\[[^\[\]]*\]", "", head)
        if shorter == head:
            break
        head = shorter
    return re.sub(r"\boperator\s*\S+", "", head)


def scan(code):
    """Follows the braces of blanked code. Returns (functions, statements): functions as (line, lines, head),
    statements outside initialisers with the kind of scope they stand in."""
    code = re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", lambda m: re.sub(r"[^\n]", " ", m.group(0)), code, flags=re.M)
    stack, functions, statements, head, start, parens = [], [], [], [], None, 0
    line = 1
    for c in code:
        if c == "\n":
            line += 1
        if start is None and not c.isspace():
            start = line
        if c == "(":
            parens += 1
        elif c == ")":
            parens = max(0, parens - 1)
        parent = stack[-1][0].kind if stack else "namespace"
        if c == "{":
            text = "".join(head).strip()
            kind = "init" if parens else _kind(text, parent)
            if parens and re.search(r"\]\s*(\([^()]*\)\s*)?(mutable|noexcept|->\s*[\w:<>&*\s]+)?\s*$", text):
                kind = "block"  # a lambda inside an argument list
            stack.append((Scope(kind, line, text), head, start, parens))
            head, start = ([], None) if kind != "init" else (head + ["{"], start)
            parens = 0
        elif c == "}":
            if not stack:
                continue
            scope, old_head, old_start, parens = stack.pop()
            if scope.kind == "init":
                head.append("}")
            elif scope.kind == "function":
                functions.append((scope.line, line - scope.line + 1, scope.head))
                head, start = [], None
            elif scope.kind == "block" and parens:
                head, start = old_head + ["{}"], old_start
            else:
                head, start = [], None
        elif c == ";" and not parens:
            if parent != "init":
                statements.append(Statement(parent, start or line, "".join(head).strip()))
                head, start = [], None
        else:
            head.append(c)
    return functions, statements


_NOT_A_VARIABLE = re.compile(
    r"^(using|typedef|friend|static_assert|template\b.*\b(class|struct|using|concept)\b|extern\s+template|namespace|return|goto|"
    r"(class|struct|union|enum)\b[^={]*$|concept\b|public\b|private\b|protected\b|requires\b)", re.S)
_CONSTANT = re.compile(r"\b(constexpr|consteval|constinit\s+const|const)\b")


def mutable_globals(statements):
    """Variables that live as long as the process and can change."""
    for s in statements:
        text = re.sub(r"^(public|private|protected)\s*:\s*", "", s.text)
        text = re.sub(r"\[\[[^\]]*\]\]\s*", "", text)
        if not text or _NOT_A_VARIABLE.match(text):
            continue
        declared = re.split(r"=(?!=)|\{", _outside(text) if "operator" not in text else text, maxsplit=1)[0]
        raw = re.split(r"(?<![=!<>])=(?!=)|\{", text, maxsplit=1)[0]
        if s.scope == "namespace":
            if "(" in raw or "operator" in raw or re.match(r"template\b", text) or len(declared.split()) < 2:
                continue
            if not _CONSTANT.search(declared):
                yield s
        elif re.match(r"(inline\s+)?static\b", text):
            if s.scope == "class" and ("(" in raw or "operator" in raw):
                continue
            if not _CONSTANT.search(declared):
                yield s


# ---- rules ------------------------------------------------------------------------------------------------

def check_includes(path, source):
    room = room_of(path)
    if room is None:
        return
    for line, angled, quoted in includes(source):
        if quoted:
            target = "include/" + quoted if quoted.startswith("penstock/") else "src/" + quoted
            other = room_of(target)
            if other is None:
                yield Finding(path, line, f'"{quoted}": name a header of the project by its path from src/ or include/')
            elif other != room and other not in ROOMS[room].may_include:
                yield Finding(path, line, f"room {room} may not include room {other} ({quoted})")
        else:
            for pattern, allowed, why in LIBRARIES:
                if re.match(pattern, angled) and room not in allowed:
                    yield Finding(path, line, f"<{angled}> in room {room}: {why}")
            if angled.startswith("boost/beast") and path.endswith(".hpp"):
                yield Finding(path, line, f"<{angled}> in a header: Beast is slow to compile and stays in few .cpp files")
            if not ROOMS[room].pure:
                continue
            for pattern, why in BANNED_HEADERS:
                if re.fullmatch(pattern, angled):
                    yield Finding(path, line, f"<{angled}> in pure room {room}: {why}")
            if angled in ("atomic", "stdatomic.h") and not path.startswith(ATOMIC_FILES):
                yield Finding(path, line, f"<{angled}> in pure room {room}: only the endpoint board and the prefix table are shared")


def check_purity(path, source):
    room = room_of(path)
    if room is None or not ROOMS[room].pure:
        return
    code = blank(source)
    for pattern, why in BANNED_WORDS:
        for match in re.finditer(pattern, code):
            yield Finding(path, line_of(code, match.start()), f"'{match.group(0).strip()}' in pure room {room}: {why}")
    if room in NO_THROW:
        for match in re.finditer(r"\bthrow\b", code):
            yield Finding(path, line_of(code, match.start()), f"'throw' in room {room}: the data path reports by value")
    for s in mutable_globals(scan(code)[1]):
        yield Finding(path, s.line, f"mutable global '{' '.join(s.text.split())[:60]}' in pure room {room}: state has an owner")


def check_sizes(path, source):
    lines = source.count("\n") + (0 if source.endswith("\n") else 1)
    if lines > MAX_FILE_LINES:
        yield Finding(path, 1, f"{lines} lines: a file has one subject and at most {MAX_FILE_LINES}")
    if room_of(path) is None:
        return
    for line, length, head in scan(blank(source))[0]:
        if length > MAX_FUNCTION_LINES:
            yield Finding(path, line, f"a function of {length} lines ('{' '.join(head.split())[:50]}'): at most {MAX_FUNCTION_LINES}")


def check_header_form(path, source):
    if not path.endswith(".hpp") or room_of(path) is None:
        return
    if not source.startswith("//"):
        yield Finding(path, 1, "a header begins with a comment that says what it is")
    if not re.search(r"^#pragma once$", source, re.M):
        yield Finding(path, 1, "a header has #pragma once")
    if re.search(r"^\s*using\s+namespace\b", blank(source), re.M):
        yield Finding(path, 1, "a header has no 'using namespace'")


def check_text(path, source):
    for pattern, why in FORBIDDEN_TEXT:
        for match in re.finditer(pattern, source, re.M):
            yield Finding(path, line_of(source, match.start()), f"'{match.group(0)}': {why}")


CODE_CHECKS = [check_includes, check_purity, check_sizes, check_header_form]


def check_links(cmake):
    """The libraries a room links, followed to the end, stay within the matrix."""
    linked = {}
    for name, rest in re.findall(r"penstock_room\((\w+)\s+[\w/]+([^)]*)\)", cmake):
        match = re.search(r"\bROOMS\b((?:\s+(?!LIBS\b)\w+)*)", rest)
        linked[name] = match.group(1).split() if match else []

    def reach(name, seen):
        for other in linked.get(name, []):
            if other not in seen:
                seen.add(other)
                reach(other, seen)
        return seen
    for name in linked:
        for other in sorted(reach(name, set())):
            if name not in ROOMS or other not in ROOMS[name].may_include:
                yield Finding("src/CMakeLists.txt", 1, f"room {name} links room {other}, which it may not include")
    for name in ROOMS:
        if name not in ("include", "main") and name not in linked:
            yield Finding("src/CMakeLists.txt", 1, f"room {name} is no library of its own")


# ---- the tree ---------------------------------------------------------------------------------------------

SKIPPED_FOLDERS = {".git", "build", "node_modules", "__pycache__", ".cache", ".venv"}
SKIPPED_FILES = {"LICENSE"}
TEXT_ENDINGS = (".hpp", ".cpp", ".h", ".c", ".py", ".sh", ".md", ".txt", ".toml", ".cmake", ".json", ".mjs", ".js", ".yml",
                ".yaml", ".gp")


def tree():
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(d for d in folders if d not in SKIPPED_FOLDERS)
        for name in sorted(files):
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            executable = "." not in name and os.access(os.path.join(folder, name), os.X_OK)
            if name not in SKIPPED_FILES and (name.endswith(TEXT_ENDINGS) or executable or "." not in name):
                yield path


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def check_tree():
    findings, seen = [], 0
    for path in tree():
        source = read(path)
        seen += 1
        findings += check_text(path, source)
        if path.endswith((".hpp", ".cpp")):
            for check in CODE_CHECKS:
                findings += check(path, source)
    findings += check_links(read("src/CMakeLists.txt"))
    return findings, seen


def check_headers():
    """Compiles each header as if it were the only one."""
    headers = [p for p in tree() if p.endswith(".hpp") and room_of(p)]
    command = [os.environ.get("CXX", "g++"), "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-I", "include", "-I", "src",
               "-isystem", "/usr/share/include/llhttp", "-DBOOST_ASIO_NO_DEPRECATED", "-x", "c++"]

    def compile_one(path):
        done = subprocess.run(command + ["-include", path, "/dev/null"], cwd=ROOT, capture_output=True, text=True)
        return [] if done.returncode == 0 else [Finding(path, 1, "does not compile alone:\n" + done.stderr[:2000])]
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("JOBS", os.cpu_count() or 1))) as pool:
        return [f for found in pool.map(compile_one, headers) for f in found], len(headers)


def main(arguments):
    if arguments[:1] == ["--headers"]:
        findings, seen = check_headers()
    else:
        from rooms_selftest import run as self_test
        rules = self_test()
        if arguments[:1] == ["--self-test"]:
            print(f"{rules} rules fire")
            return 0
        findings, seen = check_tree()
    for f in sorted(findings):
        print(f"{f.path}:{f.line}: {f.text}")
    print(f"{seen} files, {len(findings)} findings")
    return 1 if findings or seen == 0 else 0


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    sys.exit(main(sys.argv[1:]))
