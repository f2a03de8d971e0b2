#!/bin/sh
# Print the name of a Postgres image that the engine here can start.
#
# That is the official one if it is there or can be pulled; else a stand-in is
# built from Debian packages, which takes about a minute and needs root. The
# stand-in takes the same variables, start-up scripts and arguments.
#
#   LAKEGAUGE_POSTGRES_IMAGE=$(.ci/build-postgres-image.sh)
set -eu

official=${1:-postgres:17}
stand_in=lakegauge/postgres:ci
suite=bookworm
pull_timeout_s=90

present() {
    docker image inspect "$1" >/dev/null 2>&1
}

if present "$official" || timeout "$pull_timeout_s" docker pull -q "$official" >/dev/null 2>&1; then
    echo "$official"
    exit
fi
if present "$stand_in"; then
    echo "$stand_in"
    exit
fi

echo "docker: cannot pull $official; building $stand_in from Debian packages" >&2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

if ! command -v debootstrap >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends debootstrap; } \
        >"$work/apt.log" 2>&1 || { tail -20 "$work/apt.log" >&2; exit 1; }
fi
# The mirror that this machine installs from.
mirror=$(apt-get indextargets --format '$(SITE)' "Release: $suite" | head -1)
root=$work/root
debootstrap --variant=minbase --include=postgresql "$suite" "$root" ${mirror:+"$mirror"} \
    >"$work/debootstrap.log" 2>&1 || { tail -20 "$work/debootstrap.log" >&2; exit 1; }

# The cluster that the package made, and what only apt needs.
rm -rf "$root"/var/lib/postgresql/* "$root"/etc/postgresql/* \
    "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
mkdir -p "$root/docker-entrypoint-initdb.d"
cat >"$root/usr/local/bin/docker-entrypoint.sh" <<'ENTRYPOINT'
#!/bin/sh
# A small likeness of the official image's entry point.
set -eu
case ${1:-} in -*) set -- postgres "$@" ;; esac
[ "${1:-}" = postgres ] || exec "$@"
if [ "$(id -u)" = 0 ]; then
    install -d -o postgres -g postgres -m 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    POSTGRES_USER=${POSTGRES_USER:-postgres}
    password=${POSTGRES_PASSWORD:-$(cat "${POSTGRES_PASSWORD_FILE:-/dev/null}")}
    [ -n "$password" ] || { echo "POSTGRES_PASSWORD is not set" >&2; exit 1; }
    umask 077
    printf '%s' "$password" >/tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --encoding=UTF8 --no-locale
    rm /tmp/password
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    pg_ctl -w -o "-c listen_addresses=''" start
    database=${POSTGRES_DB:-$POSTGRES_USER}
    [ "$database" = postgres ] || createdb --username="$POSTGRES_USER" "$database"
    for script in /docker-entrypoint-initdb.d/*.sh; do
        [ ! -f "$script" ] || . "$script"
    done
    pg_ctl -w -m fast stop
fi
unset POSTGRES_PASSWORD
exec "$@"
ENTRYPOINT
chmod 755 "$root/usr/local/bin/docker-entrypoint.sh"

bin=$(cd "$root" && echo usr/lib/postgresql/*/bin)
tar -C "$root" -c . | docker import \
    --change "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/$bin" \
    --change "ENV PGDATA=/var/lib/postgresql/data" \
    --change "VOLUME /var/lib/postgresql/data" \
    --change "EXPOSE 5432" \
    --change 'ENTRYPOINT ["docker-entrypoint.sh"]' \
    --change 'CMD ["postgres"]' \
    - "$stand_in" >&2
echo "$stand_in"
