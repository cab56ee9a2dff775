#!/bin/bash
# Makes the transcripts of ../openconnect-9.01 again. Wants root, openconnect,
# ocserv, ocpasswd and certtool; uses only loopback, ports 24443 and 24444.
#
#   ./capture.sh OUTPUT-FOLDER
set -eu
out=$(realpath "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
chmod 755 "$work"
cd "$work"
go build -o "$work/record" "$here/record.go"

certtool --generate-privkey --key-type=rsa --bits 2048 --outfile key.pem 2>/dev/null
printf 'cn = "vpn.example.com"\nip_address = 127.0.0.1\nexpiration_days = 30\ntls_www_server\n' >t.cfg
certtool --generate-self-signed --load-privkey key.pem --template t.cfg --outfile cert.pem 2>/dev/null
pin=pin-sha256:$(openssl x509 -in cert.pem -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)
printf 'secret-pw\nsecret-pw\n' | ocpasswd -c passwd -g eng,ops alice
echo '<p/>' >profile.xml

cat >nogroup.conf <<CONF
auth = "plain[passwd=$work/passwd]"
listen-host = 127.0.0.1
tcp-port = 24443
udp-port = 24443
run-as-user = nobody
run-as-group = nogroup
socket-file = $work/sock
server-cert = $work/cert.pem
server-key = $work/key.pem
isolate-workers = false
max-clients = 16
max-same-clients = 0
keepalive = 32400
dpd = 90
mobile-dpd = 1800
auth-timeout = 240
cookie-timeout = 300
rekey-time = 172800
rekey-method = ssl
use-occtl = false
pid-file = $work/ocserv.pid
device = wcap
predictable-ips = true
default-domain = example.com
ipv4-network = 10.211.0.0
ipv4-netmask = 255.255.255.0
ipv6-network = fd00:211::/48
ipv6-subnet-prefix = 64
dns = 10.211.0.1
dns = fd00:211::1
nbns = 10.211.0.3
split-dns = corp.example
route = 10.0.0.0/8
route = fd00:211::/48
no-route = 10.1.0.0/16
cisco-client-compat = true
dtls-legacy = true
pre-login-banner = "Welcome"
banner = "Hi there"
max-ban-score = 0
session-timeout = 36000
idle-timeout = 1200
user-profile = profile.xml
proxy-url = http://example.com/proxy.pac
custom-header = "X-Custom: yes"
CONF
{ cat nogroup.conf; printf 'select-group = eng[Engineering]\nselect-group = ops\n'; } >group.conf

start() { ocserv -f -c "$1" >ocserv.log 2>&1 & sleep 3; server=$(cat ocserv.pid); }
stop() { kill "$server"; sleep 4; }

# client NAME SECONDS [openconnect arguments]: one transcript
client() {
	name=$1 seconds=$2
	shift 2
	./record 127.0.0.1:24444 127.0.0.1:24443 cert.pem key.pem "$out/$name.txt" &
	recorder=$!
	sleep 0.5
	timeout -s INT "$seconds" openconnect --passwd-on-stdin -u alice \
		--servercert "$pin" --non-inter --script-tun --script "sleep 20" --local-hostname laptop \
		"$@" "${url:-https://127.0.0.1:24444/}" >client.log 2>&1 <<<"${password:-secret-pw}" &
	client=$!
	if [ -n "${reconnect-}" ]; then
		sleep 3
		kill -USR2 "$(pgrep -P $client)"
	fi
	wait $client || true
	kill $recorder
	sed -i "1i # openconnect 9.01 (Debian 9.01-3, GnuTLS 3.7.9), ocserv 1.1.6, ${name}: $*" "$out/$name.txt"
}

start group.conf
client xml-group 4 --authgroup Engineering
client legacy-group 4 --no-xmlpost --authgroup Engineering
stop
start nogroup.conf
client xml 4
client legacy 4 --no-xmlpost
for os in win mac-intel android apple-ios linux; do client os-$os 4 --os $os; done
client no-keepalive 4 --no-http-keepalive
password=wrong client wrong-password 4
password=wrong client legacy-wrong-password 4 --no-xmlpost
client ipv4-only 4 --disable-ipv6
client no-dtls 4 --no-dtls --compression=none
client legacy-dtls 4 --dtls12-ciphers AES256-GCM-SHA384
client mtu 4 --base-mtu 1500 -m 1300 --compression=all
client ua-v3 4 --useragent "Open AnyConnect VPN Agent v3.20"
client ua-anyconnect 4 --os win --useragent "AnyConnect Windows 4.10.07061"
client ua-cisco-ios 4 --os apple-ios --useragent "Cisco AnyConnect VPN Agent for Apple iPhone 4.0.03004"
client bad-cookie 4 -C webvpn=bogus
url='https://127.0.0.1:24444/group?secret' client url-path 4
reconnect=1 client reconnect 8
stop
rm -r "$work"
