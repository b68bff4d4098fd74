"""The proxies under test: a command and a configuration each, one process on one thread."""

import os
import shutil

HAPROXY = """global
    nbthread 1
    maxconn 8000
defaults
    mode http
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
frontend front
    bind 127.0.0.1:{port}
    default_backend engines
backend engines
    balance leastconn
{servers}
"""

NGINX = """daemon off;
master_process off;
error_log stderr crit;
pid {dir}/nginx.pid;
worker_rlimit_nofile 20000;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_max_body_size 16m;
    client_body_buffer_size 1m;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    upstream engines {{
        least_conn;
{servers}
        keepalive 4000;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        tcp_nodelay on;
        location / {{
            proxy_pass http://engines;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_request_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""

PENSTOCK = """[server]
listen = ["127.0.0.1:{port}"]
workers = 1

[admin]
listen = "127.0.0.1:{admin_port}"

[log]
access = "{dir}/access.log"

[[pool]]
name = "main"
models = ["*"]
policy = "prefix"
{endpoints}"""

# Every request is split: two engines prefill, the same two as without decode.
SPLIT = """
[pool.disaggregation]
connector = "nixl"
split = "always"
"""


class Proxy:
    """name: its column; argv(dir, port, engine_ports) writes its configuration and returns its command."""

    def __init__(self, name, program, write):
        self.name, self.program, self.write = name, program, write

    def missing(self):
        return shutil.which(self.program) is None

    def argv(self, directory, port, engine_ports):
        return self.write(self.program, directory, port, engine_ports)


def save(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w") as f:
        f.write(text)
    return path


def haproxy(program, directory, port, engine_ports):
    servers = "\n".join(f"    server e{p} 127.0.0.1:{p}" for p in engine_ports)
    path = save(directory, "haproxy.cfg", HAPROXY.format(port=port, servers=servers))
    return [program, "-db", "-q", "-f", path]


def nginx(program, directory, port, engine_ports):
    servers = "\n".join(f"        server 127.0.0.1:{p};" for p in engine_ports)
    path = save(directory, "nginx.conf", NGINX.format(port=port, servers=servers, dir=directory))
    return [program, "-p", directory, "-c", path]


def penstock(program, directory, port, engine_ports):
    endpoints = "".join(f'\n[[pool.endpoint]]\nurl = "http://127.0.0.1:{p}"\n' for p in engine_ports)
    text = PENSTOCK.format(port=port, admin_port=port + 1, dir=directory, endpoints=endpoints)
    return [program, "serve", "-c", save(directory, "penstock.toml", text)]


def penstock_split(program, directory, port, engine_ports):
    endpoints = SPLIT + "".join(
        f'\n[[pool.endpoint]]\nurl = "http://127.0.0.1:{p}"\nrole = "{role}"\n'
        for role, ports in (("prefill", prefill_ports(engine_ports)), ("decode", engine_ports)) for p in ports)
    text = PENSTOCK.format(port=port, admin_port=port + 1, dir=directory, endpoints=endpoints)
    return [program, "serve", "-c", save(directory, "split.toml", text)]


def prefill_ports(engine_ports):
    return [p + len(engine_ports) for p in engine_ports]


def known(penstock_binary, baseline_binary):
    proxies = [
        Proxy("haproxy", shutil.which("haproxy") or "/usr/sbin/haproxy", haproxy),
        Proxy("nginx", shutil.which("nginx") or "/usr/sbin/nginx", nginx),
        Proxy("penstock", penstock_binary, penstock),
        Proxy("split", penstock_binary, penstock_split),
    ]
    if baseline_binary:
        proxies.append(Proxy("baseline", baseline_binary, penstock))
    return {p.name: p for p in proxies}
