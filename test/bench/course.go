package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rocserv/test/relay"
)

// A path that changes: so long it is clean, then loses a part, and is clean again.
const (
	courseSpell = 8 * time.Second
	courseStep  = 500 * time.Millisecond
	courseSteps = int(3 * courseSpell / courseStep)
	courseLoss  = 0.02
	courseRow   = "path-change"
	courseChart = "performance-change.svg"
)

// inStep is the rate in one step of a course, in Mbit/s. It is in no table.
func inStep(i int) figure { return figure(fmt.Sprintf("step-%02d", i)) }

// overChange measures a download over a path that loses nothing, then a part,
// then nothing: the rate in each step, and while packets are lost.
func overChange(c *contender, _ plan) (sample, error) {
	clean := relay.Path{Delay: 20 * time.Millisecond, Rate: pathRate, Queue: pathQueue}
	lossy := clean
	lossy.Loss = courseLoss
	way, o, err := c.come(viaPath, clean)
	if err != nil {
		return nil, err
	}
	defer way.set(relay.Path{})
	for i, p := range []relay.Path{lossy, clean} {
		t := time.AfterFunc(time.Duration(i+1)*courseSpell, func() { way.set(p) })
		defer t.Stop()
	}
	r, err := runIperf(o.From, int(3*courseSpell/time.Second), "-i", fmt.Sprint(courseStep.Seconds()), "-C", "bbr", "-R")
	if err != nil {
		return nil, err
	}
	s := sample{}
	var during []float64
	for i, x := range r.Intervals[:min(len(r.Intervals), courseSteps)] {
		s[inStep(i)] = x.Sum.Bps / 1e6
		if at := time.Duration(i) * courseStep; at >= courseSpell && at < 2*courseSpell {
			during = append(during, x.Sum.Bps/1e6)
		}
	}
	s[throughput] = average(during)
	return s, nil
}

// drawCourse makes the chart of what was received over time, medians of the rounds.
func (r *result) drawCourse() (svg string, ok bool) {
	row := slices.IndexFunc(r.Rows, func(rr *rowResult) bool { return rr.Name == courseRow })
	if row < 0 {
		return "", false
	}
	const width, height, left, top = 660, 220, 48, 56
	x := func(step int) float64 { return left + float64(step)*width/float64(courseSteps) }
	y := func(rate float64) float64 { return top + height - rate/(pathRate*8/1e6)*height }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d">`+"\n", chartWidth, top+height+30)
	b.WriteString(`<style>text{font:12px sans-serif;fill:#1f2933}.t{font-size:14px;font-weight:bold}polyline{fill:none;stroke-width:2}</style>` + "\n")
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/><text x="12" y="22" class="t">Download over 200 Mbit/s, 40 ms, while 2 %% are lost from %.0f to %.0f s, Mbit/s</text>`+"\n",
		chartWidth, top+height+30, courseSpell.Seconds(), 2*courseSpell.Seconds())
	fmt.Fprintf(&b, `<rect x="%.0f" y="%d" width="%.0f" height="%d" fill="#fde8e8"/>`+"\n", x(courseSteps/3), top, x(courseSteps/3)-left, height)
	for rate := 0.0; rate <= pathRate*8/1e6; rate += 50 {
		fmt.Fprintf(&b, `<line x1="%d" x2="%d" y1="%.0f" y2="%.0[3]f" stroke="#d5dbe1"/><text x="%[4]d" y="%.0[3]f" text-anchor="end">%.0[5]f</text>`+"\n", left, left+width, y(rate), left-6, rate)
	}
	for s := 0; s <= courseSteps; s += courseSteps / 6 {
		fmt.Fprintf(&b, `<text x="%.0f" y="%d" text-anchor="middle">%.0f s</text>`+"\n", x(s), top+height+18, float64(s)*courseStep.Seconds())
	}
	for i, k := range contenderColours {
		var line []string
		for s := range courseSteps {
			if v, ok := r.Rows[row].summary(string(k.kind), inStep(s)); ok {
				line = append(line, fmt.Sprintf("%.1f,%.1f", x(s)+width/float64(courseSteps)/2, y(v.value)))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" stroke="%s"/><rect x="%[3]d" y="34" width="12" height="12" fill="%[2]s"/><text x="%[4]d" y="44">%[5]s</text>`+"\n",
			strings.Join(line, " "), k.colour, left+i*110, left+i*110+17, k.kind)
	}
	b.WriteString("</svg>\n")
	return b.String(), true
}

// documentCourse writes the chart and returns the line that shows it.
func (r *result) documentCourse(dir string) (string, error) {
	svg, ok := r.drawCourse()
	if !ok {
		return "", nil
	}
	return fmt.Sprintf("![A path that changes](%s)\n\n", courseChart),
		os.WriteFile(filepath.Join(dir, courseChart), []byte(svg), 0o644)
}
