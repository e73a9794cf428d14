#!/bin/sh
# Makes the secrets of compose.yaml in ./secrets. Files that exist stay as they are, so it can be run again.
# Other users cannot enter the folder. The files themselves can be read, because the services run as other users.
set -eu
umask 022
cd "$(dirname "$0")"
mkdir -p secrets && chmod 700 secrets
make() { # make NAME: writes standard input to a file that does not exist yet
  [ -s "secrets/$1" ] || { cat >"secrets/$1.new" && mv "secrets/$1.new" "secrets/$1" && echo "made secrets/$1"; }
}
random() { head -c 32 /dev/urandom | base64; }
letters() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
for name in jwt jwt-refresh encryption; do random | make $name; done
letters | make postgres-password
printf 'postgres://cloudbot:%s@postgres:5432/cloudbot?sslmode=disable\n' "$(cat secrets/postgres-password)" | make database-url
if [ ! -s secrets/nats-users ]; then
  nats=$(letters) route=$(letters)
  printf 'nats://cloudbot:%s@nats-1:4222,nats://cloudbot:%s@nats-2:4222,nats://cloudbot:%s@nats-3:4222\n' "$nats" "$nats" "$nats" >secrets/nats-url
  {
    printf 'authorization { user: cloudbot, password: "%s" }\nROUTE_PASSWORD: "%s"\n' "$nats" "$route"
    for n in 1 2 3; do printf 'ROUTE_%s: "nats-route://route:%s@nats-%s:6222"\n' $n "$route" $n; done
  } | make nats-users
fi
for name in aws-access-key-id aws-secret-access-key; do
  [ -e secrets/$name ] || : >secrets/$name # with this mode, whatever its writer's umask
  [ -s secrets/$name ] || echo "missing: write it to secrets/$name"
done
