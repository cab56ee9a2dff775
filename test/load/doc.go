// Command load opens many tunnels to a VPN server from one process and puts load
// on them (package test/client). It needs no privileges and no tun device.
//
//	go run ./test/load -server HOST:443 -user U -password P -tunnels 200 -mode hold -seconds 60
//	go run ./test/load -server HOST:443 … -mode down -target 192.0.2.1:9100 -flows 4
//	go run ./test/load -server HOST:443 … -mode echo -target 192.0.2.1:7 -rate 50000 -size 64
//
// It prints "ready" when all tunnels are open, and at the end a report in JSON:
// how many tunnels were opened and how long that took, what was moved, how many
// broke. An interrupt ends the load early. The exit status is 1 when a tunnel
// could not be opened, broke, or was silent.
//
// Servers under test only: it does not verify certificates, and it sends as fast
// as it is told to.
package main
