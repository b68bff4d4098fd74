"""Shows that every rule of rooms.py fires on what it is for, and keeps quiet beside it."""
import rooms

_HPP = "// A thing.\n#pragma once\n"

# (path, source, words of the finding). Each stands for one rule.
FIRES = [
    ("src/routing/a.cpp", '#include "proxy/http/head.hpp"\n', "may not include room http"),
    ("src/proxy/http/a.cpp", '#include "routing/router.hpp"\n', "may not include room routing"),
    ("include/penstock/a.hpp", _HPP + '#include "tokenizer/x.hpp"\n', "may not include room tokenizer"),
    ("src/proxy/worker/a.cpp", '#include "proxy/config/parse.hpp"\n', "may not include room config"),
    ("src/proxy/io/a.cpp", '#include "emulator/server/server.hpp"\n', "may not include room emulator_server"),
    ("src/routing/a.cpp", '#include "endpoint_board.hpp"\n', "by its path from src/"),
    ("src/tokenizer/a.cpp", "#include <toml++/toml.h>\n", "toml++ ends"),
    ("src/proxy/flow/a.cpp", "#include <llhttp.h>\n", "llhttp"),
    ("src/routing/a.cpp", "#include <simdjson.h>\n", "JSON is read"),
    ("src/proxy/worker/a.cpp", "#include <prometheus/gauge.h>\n", "metrics library"),
    ("src/proxy/flow/a.cpp", "#include <boost/asio/io_context.hpp>\n", "for drivers"),
    ("src/proxy/admin/a.hpp", _HPP + "#include <boost/beast/http.hpp>\n", "Beast is slow"),
    ("src/health/a.cpp", "#include <thread>\n", "no threads"),
    ("src/health/a.cpp", "#include <mutex>\n", "no locks"),
    ("src/health/a.cpp", "#include <random>\n", "randomness is an argument"),
    ("src/health/a.cpp", "#include <iostream>\n", "does no I/O"),
    ("src/health/a.cpp", "#include <ctime>\n", "time is an argument"),
    ("src/health/a.cpp", "#include <sys/socket.h>\n", "no system call"),
    ("src/health/a.cpp", "#include <unistd.h>\n", "no system call"),
    ("src/health/a.cpp", "#include <csignal>\n", "signals belong"),
    ("src/routing/router.cpp", "#include <atomic>\n", "only the endpoint board"),
    ("src/health/a.cpp", "auto t = x::clock::now();\n", "kernel's time"),
    ("src/health/a.cpp", "using c = std::chrono::steady_clock;\n", "kernel's time"),
    ("src/health/a.cpp", "int f() { return time(nullptr); }\n", "kernel's time"),
    ("src/health/a.cpp", "void f() { nanosleep(&a, &b); }\n", "does not wait"),
    ("src/proxy/config/a.cpp", 'auto f() { return std::getenv("HOME"); }\n', "environment is an argument"),
    ("src/routing/a.cpp", "int f() { return rand() % 3; }\n", "randomness is an argument"),
    ("src/routing/a.cpp", "void f() { thread_local int x = 0; }\n", "no globals"),
    ("src/routing/a.cpp", "struct s { std::mutex m; };\n", "no threads"),
    ("src/routing/a.cpp", 'void f() { std::cout << "x"; }\n', "does no I/O"),
    ("src/routing/a.cpp", 'void f() { fmt::print("x"); }\n', "does no I/O"),
    ("src/routing/a.cpp", "int f() { return ::socket(1, 2, 3); }\n", "no system call"),
    ("src/proxy/http/a.cpp", 'void f() { throw std::runtime_error("x"); }\n', "reports by value"),
    ("src/routing/a.cpp", "namespace penstock {\nint counter = 0;\n}\n", "mutable global"),
    ("src/routing/a.cpp", "namespace {\nstd::unordered_map<int, std::string> cache;\n}\n", "mutable global"),
    ("src/routing/a.cpp", "namespace {\nstd::vector<int> seen{1, 2};\n}\n", "mutable global"),
    ("src/routing/a.cpp", "int f() {\n  static int calls = 0;\n  return ++calls;\n}\n", "mutable global"),
    ("src/routing/a.cpp", "int f() {\n  if (x) { static std::string s; use(s); }\n}\n", "mutable global"),
    ("src/routing/a.cpp", "void f() {\n  each([&](int i) { static int n; n += i; });\n}\n", "mutable global"),
    ("src/routing/a.hpp", _HPP + "struct s {\n  static int shared;\n};\n", "mutable global"),
    ("src/routing/a.hpp", _HPP + "struct s {\n  inline static int shared = 1;\n};\n", "mutable global"),
    ("src/proxy/io/a.cpp", "\n" * 601, "at most 600"),
    ("src/proxy/io/a.cpp", "void f() {\n" + "  g();\n" * 70 + "}\n", "a function of 72 lines"),
    ("src/proxy/io/a.cpp", "struct s {\n  int f(int a) const noexcept {\n" + "    g();\n" * 70 + "  }\n};\n", "a function of 72"),
    ("src/routing/a.hpp", "#pragma once\n", "begins with a comment"),
    ("src/routing/a.hpp", "// A thing.\n", "#pragma once"),
    ("src/routing/a.hpp", _HPP + "using namespace std;\n", "using namespace"),
    ("src/routing/a.cpp", "// TO" + "DO later\n", "finish it or file it"),
    ("scripts/a", "cp /wo" + "rk/main/x .\n", "no place outside"),
    ("scripts/a", "see ../sha" + "red/x\n", "no place outside"),
    ("tests/a.json", '"https://registry.np' + 'mjs.org/x"\n', "package sources"),
]

# (path, source): nothing may be found.
QUIET = [
    ("src/proxy/flow/a.cpp", '#include "proxy/http/head.hpp"\n#include "penstock/time.hpp"\n#include "proxy/flow/b.hpp"\n'),
    ("src/proxy/main.cpp", '#include "proxy/io/server.hpp"\n#include "emulator/server/server.hpp"\n'),
    ("src/routing/endpoint_board.hpp", _HPP + "#include <atomic>\n"),
    ("src/proxy/io/a.cpp", "#include <thread>\n#include <boost/asio.hpp>\nstatic int n = 0;\nauto t = clk::now();\n"),
    ("src/health/a.cpp", "// #include <thread>\n/* std::cout << time(nullptr); */\nconst char* const s = \"getenv(\";\n"),
    ("src/health/a.cpp", "namespace x {\nint f(int a, int b = 3);\nstd::string g();\nextern template class v<int>;\n"
                         "struct y;\nenum class z { a, b };\nusing w = int;\ntemplate <class T> bool h(T);\n"
                         "constexpr int table[] = {1, 2};\ninline constexpr auto l = [](int q) { return q; };\n"
                         "bool operator==(const y& a, const y& b);\n}\n"),
    ("src/health/a.cpp", "struct s {\n  static s make(int);\n  static constexpr int n = 3;\n  int run_time(int x) const { return time(x); }\n"
                         "  int a = 0, b{1};\n  std::vector<int> v = {1};\n};\nint time(int);\n"),
    ("src/health/a.cpp", "int f() {\n  static constexpr int table[] = {1};\n  static const std::string name{\"x\"};\n"
                         "  int local = 0;\n  int many[3] = {};\n  for (int i = 0; i < 3; ++i) { local += i; }\n  return local;\n}\n"),
    ("src/health/a.cpp", "int x(const request& r) {\n  switch (r.k) {\n    case 1: {\n      int c = '{';\n      return 1'000'000;\n"
                         "    }\n    default: return 0;\n  }\n}\nstatic int helper(int a) { return a; }\n"),
    ("src/proxy/worker/a.cpp", "struct s {\n  handle socket(int a);\n  bool open();\n};\nvoid f(s& x) { x.open(); s::close(); }\n"),
    ("src/proxy/config/a.cpp", 'void f() { throw bad("x"); }\n'),
    ("src/proxy/worker/a.cpp", '// src/proxy/worker/ is fine, so is a/work/b\n'),
]

_GOOD_LINKS = "".join(f"penstock_room({name} x)\n" for name in rooms.ROOMS if name not in ("include", "main"))


def _findings(path, source):
    found = list(rooms.check_text(path, source))
    if path.endswith((".hpp", ".cpp")):
        for check in rooms.CODE_CHECKS:
            found += check(path, source)
    return found


def run():
    """Returns how many rules were shown to fire; raises when one does not."""
    for path, source, words in FIRES:
        found = _findings(path, source)
        assert any(words in f.text for f in found), f"no '{words}' on {path}: {source[:80]!r}, but {found}"
    for path, source in QUIET:
        found = _findings(path, source)
        assert not found, f"{path} is fine, but: {found}"
    bad = _GOOD_LINKS.replace("penstock_room(http x)", "penstock_room(http x ROOMS routing LIBS fmt::fmt)")
    assert any("http links room routing" in f.text for f in rooms.check_links(bad))
    assert any("no library" in f.text for f in rooms.check_links(_GOOD_LINKS.replace("penstock_room(flow x)\n", "")))
    assert not list(rooms.check_links(_GOOD_LINKS))
    return len(FIRES) + 2
