# What every command of this directory needs before Python can run: sourced, never run.
# Packages come from Debian; uv, Python and all Python packages stay inside .venv. Nothing that apt installs is started.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
PACKAGES=(containerd runc containernetworking-plugins busybox-static socat conntrack iptables ipset iproute2 util-linux
    buildah mmdebstrap make tcpdump bird2 iputils-ping python3 python3-dev gcc libc6-dev
    ca-certificates)
BENCH_PACKAGES=(iperf3) # hack/bench/run alone needs these

say() { printf '%s\n' "$*" >&2; }

need_root() {
    [ "$(id -u)" = 0 ] || { say "$0 needs root: it makes network namespaces and mounts (of its own)"; exit 1; }
}

check_system() {
    local id=unknown version=
    # shellcheck disable=SC1091
    [ -r /etc/os-release ] && { id=$(. /etc/os-release; echo "$ID"); version=$(. /etc/os-release; echo "${VERSION_ID:-}"); }
    if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
        say "This machine has cgroup version 2 alone. The lab has code for that, which nobody has tried yet. Going on."
    fi
    [ "$id $version" = "debian 12" ] && return
    say "This is $id $version. The lab is tested on Debian 12 only. Untested here: the versions of containerd, runc, iptables"
    say "and Python that your system has, and the names of the packages to install. Going on."
}

# Daemons must not start on installation: the lab runs its own, and the machine's are none of its business.
install_packages() {
    local missing=()
    for package in "${PACKAGES[@]}"; do
        dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || { say "missing and not installable without apt-get: ${missing[*]}"; return; }
    say "Installing from Debian (usually 30 s): ${missing[*]}"
    local log shims
    log=$(mktemp)
    shims=$(mktemp -d)
    printf '#!/bin/sh\nexit 101\n' | tee "$shims/policy-rc.d" "$shims/invoke-rc.d" >/dev/null
    printf '#!/bin/sh\nexit 0\n' | tee "$shims/systemctl" "$shims/deb-systemd-invoke" >/dev/null
    chmod +x "$shims"/*
    if ! { apt-get update -qq && PATH="$shims:$PATH" DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        say "apt-get failed"
        rm -rf "$log" "$shims"
        exit 1
    fi
    rm -rf "$log" "$shims"
}

find_uv() {
    UV=$(command -v uv || true)
    [ -n "$UV" ] && "$UV" --version >/dev/null 2>&1 && return
    UV=${MANX_CACHE:-/var/cache/manx}/uv/bin/uv
    [ -x "$UV" ] && return
    say "Fetching uv from PyPI (usually 5 s)"
    local base=${UV%/bin/uv}
    command -v python3 >/dev/null && python3 -m venv "$base" 2>/dev/null || {
        apt-get install -y -qq --no-install-recommends python3-venv >/dev/null 2>&1
        python3 -m venv "$base"
    }
    "$base/bin/pip" install -q uv
}

# Debian's own, which is the image's, too: what is measured here is then what users run.
python_to_use() {
    local debian=/usr/bin/python3
    "$debian" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$debian" || echo '>=3.11'
}

# A .venv that somebody else made (uv sync) is used as it is, as long as the lab can run in it.
make_venv() {
    local stamp=$VENV/.manx-lock wanted
    wanted=$({ cat "$ROOT"/requirements.lock "$ROOT"/pyproject.toml "$ROOT"/*/pyproject.toml 2>/dev/null || true; } | sha256sum)
    if [ -x "$VENV/bin/python" ]; then
        [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
        [ ! -e "$stamp" ] && "$VENV/bin/python" -c 'import yaml, cryptography, manx_core' 2>/dev/null && return
    fi
    find_uv
    say "Installing Python packages into .venv (usually 30 s)"
    [ -x "$VENV/bin/python" ] || UV_PYTHON_DOWNLOADS=never "$UV" venv -q --python "$(python_to_use)" "$VENV"
    local ours=(-e "$ROOT/core" -e "$ROOT/operator" -e "$ROOT/node-agent")
    if [ -f "$ROOT/requirements.lock" ]; then
        "$UV" pip install -q --python "$VENV" --require-hashes -r "$ROOT/requirements.lock"
        "$UV" pip install -q --python "$VENV" --no-deps "${ours[@]}"
    else
        "$UV" pip install -q --python "$VENV" "${ours[@]}" pyyaml cryptography
    fi
    printf '%s\n' "$wanted" >"$stamp"
}

lab() {
    PYTHONPATH=$ROOT/hack exec "$VENV/bin/python" -m lab "$@"
}
