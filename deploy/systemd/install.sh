#!/bin/sh
# Installs CloudBot on this computer, as README.md beside it describes, or upgrades it to the version of this folder. It
# says what it does, and changes nothing that is already as it should be.
# Usage: install.sh NAME              NAME is public; Caddy gets a certificate for it (ACME)
#        install.sh NAME --local-ca   to try it: Caddy signs the certificate for NAME itself
#        install.sh                   upgrade, with the name and settings of before
set -eu

here=$(cd "$(dirname "$0")" && pwd -P) # not the link /opt/cloudbot, which this script sets
archive=$(cd "$here/../.." && pwd -P)
name=${1:-}
own_ca=${2:-}
settings=/etc/cloudbot/.env
caddyfile=/etc/caddy/Caddyfile

die() { echo "install.sh: $*" >&2; exit 1; }
say() { echo "- $*"; }

# What it needs, before it changes anything.
[ "$(id -u)" -eq 0 ] || die "run it as root"
[ -z "$own_ca" ] || [ "$own_ca" = --local-ca ] || die "$own_ca is not an option; use --local-ca or none"
case $name in
  '') [ -e "$settings" ] || die "give the name under which people reach this computer: install.sh cloudbot.example" ;;
  *[!A-Za-z0-9.-]* | -*) die "$name is not a name such as cloudbot.example" ;;
esac
[ -x "$archive/bin/cloudbot" ] || die "$archive/bin/cloudbot is missing; run install.sh from the unpacked release"
for tool in systemctl caddy psql; do
  command -v $tool >/dev/null || die "$tool is missing; run apt-get install caddy postgresql"
done
version=$(runuser -u postgres -- psql -XAtc 'SHOW server_version_num') || die "PostgreSQL does not answer; run systemctl start postgresql"
[ "$version" -ge 160000 ] || die "PostgreSQL 16 or newer is needed; Debian 13 has 17"
if [ -n "$name" ] && [ -e $caddyfile ] && ! head -n 1 $caddyfile | grep -q CloudBot &&
  ! dpkg-query -W -f '${Conffiles}\n' caddy | grep -q "$caddyfile $(md5sum <$caddyfile | cut -d ' ' -f 1)"; then
  die "$caddyfile is your own; add the site of $archive/deploy/caddy/Caddyfile to it, put \"# CloudBot\" into its first line, and run install.sh without a name"
fi

# The user, and the secrets that only it reads.
if ! id cloudbot >/dev/null 2>&1; then
  useradd --system --user-group --home-dir /var/lib/cloudbot --shell /usr/sbin/nologin cloudbot
  say "created the user cloudbot"
fi
install -d -m 0750 -o root -g cloudbot /etc/cloudbot /etc/cloudbot/secrets
for secret in jwt jwt-refresh encryption; do
  file=/etc/cloudbot/secrets/$secret
  [ ! -s $file ] || continue
  (umask 077 && head -c 32 /dev/urandom | base64 >$file.new)
  chown root:cloudbot $file.new && chmod 0640 $file.new && mv $file.new $file
  say "made the secret $file"
done
if [ ! -e $settings ]; then
  sed "s/cloudbot\.example/$name/" "$here/cloudbot.env" >$settings.new
  chown root:cloudbot $settings.new && chmod 0640 $settings.new && mv $settings.new $settings
  say "wrote the settings to $settings"
elif [ -n "$name" ] && ! grep -qx "CONTROL_PLANE_URL=https://$name" $settings; then
  die "$settings has another CONTROL_PLANE_URL; change it there to https://$name first"
fi

# The database. Its role needs no password: PostgreSQL knows the user at the other end of its socket.
sql() { runuser -u postgres -- psql -XAtqc "$1"; }
if [ -z "$(sql "SELECT 1 FROM pg_roles WHERE rolname = 'cloudbot'")" ]; then
  runuser -u postgres -- createuser cloudbot
  say "created the database role cloudbot"
fi
if [ -z "$(sql "SELECT 1 FROM pg_database WHERE datname = 'cloudbot'")" ]; then
  runuser -u postgres -- createdb --owner cloudbot --encoding UTF8 --template template0 cloudbot
  say "created the database cloudbot"
fi

# The program and its service.
ln -sfn "$archive" /opt/cloudbot.new && mv -T /opt/cloudbot.new /opt/cloudbot
install -m 0755 "$here/cloudbot" /usr/local/bin/cloudbot
install -m 0644 "$here/cloudbot.service" /etc/systemd/system/cloudbot.service
systemctl daemon-reload
systemctl enable --quiet cloudbot
say "starting CloudBot $(basename "$archive"), which also migrates the database"
systemctl restart cloudbot || die "CloudBot does not start; journalctl -u cloudbot -n 20 says why"

# TLS.
if [ -n "$name" ]; then
  sed -e "s/cloudbot\.example/$name/" ${own_ca:+-e 's/#tls internal/tls internal/'} "$archive/deploy/caddy/Caddyfile" >$caddyfile.new
  if cmp -s $caddyfile.new $caddyfile; then
    rm $caddyfile.new
  else
    if [ -e $caddyfile ]; then
      mv --backup=numbered $caddyfile $caddyfile.before # it may have changes of your own
      say "kept the earlier $caddyfile as $caddyfile.before"
    fi
    mv $caddyfile.new $caddyfile
    say "wrote $caddyfile"
  fi
  systemctl enable --quiet caddy
  systemctl reload-or-restart caddy || die "Caddy does not start; journalctl -u caddy -n 20 says why"
fi
if [ -n "$own_ca" ]; then
  root=/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt
  for _ in $(seq 60); do [ ! -s $root ] || break; sleep 1; done
  install -m 0644 $root /etc/cloudbot/local-ca.crt
  say "copied the certificate of Caddy's local CA to /etc/cloudbot/local-ca.crt"
fi
echo "CloudBot is ready: $(sed -n 's/^CONTROL_PLANE_URL=//p' $settings)"
