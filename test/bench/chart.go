package main

import (
	"encoding/xml"
	"fmt"
	"strings"

	"rocserv/test/e2e/lab"
)

// chart is bars of one figure over some rows.
type chart struct {
	file  string
	title string
	of    figure
	rows  string // a pattern list of choose
}

var charts = []chart{
	{"performance-cpu.svg", "Server CPU per gigabyte, s/GB (less is better)", cpuPerGB, "dtls-*,tls-*"},
	{"performance-throughput.svg", "Throughput of one openconnect, Mbit/s (more is better)", throughput, "dtls-*,tls-*"},
	{"performance-latency.svg", "Latency through an idle tunnel, p50 in ms (less is better)", p50, "ping,ping-tls,rr,rr-tls,connect"},
	{"performance-growth.svg", "Server CPU for a datagram there and back, µs (less is better)", cpuPerTrip, growPrefix + "*"},
}

// Measures of a chart in pixels.
const (
	chartWidth = 720
	labelWidth = 220
	valueWidth = 60
	barHeight  = 13
	groupGap   = 10
	chartTop   = 56
)

// contenderColours in the order bars are drawn.
var contenderColours = []struct {
	kind   lab.Kind
	colour string
}{{lab.Ocserv, "#9aa5b1"}, {lab.Rocserv, "#2563eb"}}

// draw makes the chart, if the run has something for it.
func (c chart) draw(r *result) (svg string, ok bool) {
	chosen, err := choose(c.rows, false)
	if err != nil {
		return "", false
	}
	var bars strings.Builder
	y, longest := chartTop, 0.0
	var drawn []*rowResult
	for _, which := range chosen {
		for _, rr := range r.Rows {
			if rr.Name != which.name {
				continue
			}
			drawn = append(drawn, rr)
			for _, k := range contenderColours {
				if s, ok := rr.summary(string(k.kind), c.of); ok {
					longest = max(longest, s.value)
				}
			}
		}
	}
	if longest == 0 {
		return "", false
	}
	for _, rr := range drawn {
		which, _ := rowNamed(rr.Name)
		fmt.Fprintf(&bars, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n",
			labelWidth-8, y+barHeight+4, escape(which.title))
		for _, k := range contenderColours {
			if s, ok := rr.summary(string(k.kind), c.of); ok {
				width := int(s.value / longest * (chartWidth - labelWidth - valueWidth))
				fmt.Fprintf(&bars, `<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`+
					`<text x="%d" y="%d" class="v">%s</text>`+"\n",
					labelWidth, y, width, barHeight-1, k.colour, labelWidth+width+4, y+barHeight-3, number(s.value))
			}
			y += barHeight
		}
		y += groupGap
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d">`+"\n", chartWidth, y, chartWidth, y)
	b.WriteString(`<style>text{font:12px sans-serif;fill:#1f2933}.v{font-size:11px}.t{font-size:14px;font-weight:bold}</style>` + "\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/><text x="12" y="22" class="t">%s</text>`+"\n", chartWidth, y, escape(c.title))
	for i, k := range contenderColours {
		x := labelWidth + i*110
		fmt.Fprintf(&b, `<rect x="%d" y="34" width="12" height="12" fill="%s"/><text x="%d" y="44">%s</text>`+"\n", x, k.colour, x+17, k.kind)
	}
	b.WriteString(bars.String() + "</svg>\n")
	return b.String(), true
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
