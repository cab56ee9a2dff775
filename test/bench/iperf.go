package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"rocserv/test/e2e/lab"
)

// iperf is what is read of iperf3's report.
type iperf struct {
	Intervals []struct {
		Sum struct {
			Bps float64 `json:"bits_per_second"`
		}
	}
	End struct {
		SumReceived struct {
			Bytes float64
			Bps   float64 `json:"bits_per_second"`
		} `json:"sum_received"`
		SumSent struct {
			Retransmits int
		} `json:"sum_sent"`
		Sum struct { // of UDP, at the receiver
			Packets float64
			Lost    float64 `json:"lost_packets"`
		}
	}
	Error string
}

// runIperf runs iperf3 as a client, of the host behind the server.
func runIperf(n lab.Netns, seconds int, args ...string) (*iperf, error) {
	return iperfTo(n, lab.Tgt4, seconds, args...)
}

func iperfTo(n lab.Netns, host string, seconds int, args ...string) (*iperf, error) {
	argv := append([]string{"iperf3", "-J", "-c", host, "-t", strconv.Itoa(seconds)}, args...)
	out, err := n.RunFor(time.Duration(seconds+20)*time.Second, "", argv...)
	r := new(iperf)
	if jerr := json.Unmarshal([]byte(out), r); err == nil && jerr != nil {
		err = fmt.Errorf("iperf3's report: %w\n%s", jerr, out)
	}
	if err == nil && r.Error != "" {
		err = fmt.Errorf("iperf3: %s", r.Error)
	}
	return r, err
}

// bulk measures flows of TCP through a tunnel.
func bulk(via, flows int, down bool) func(*contender, plan) (sample, error) {
	return func(c *contender, p plan) (sample, error) {
		if c.isFloor() {
			return c.floorUpload(via, p)
		}
		o, err := c.client(via)
		if err != nil {
			return nil, err
		}
		args := []string{"-P", strconv.Itoa(flows)}
		if down {
			args = append(args, "-R")
		}
		var r *iperf
		cli, err := c.processCPU(o.PID())
		if err != nil {
			return nil, err
		}
		used, err := c.cpu(func() (err error) {
			r, err = runIperf(o.From, p.seconds, args...)
			return err
		})
		if err != nil {
			return nil, err
		}
		cliAfter, err := c.processCPU(o.PID())
		if err != nil {
			return nil, err
		}
		if r.End.SumReceived.Bytes == 0 {
			return nil, fmt.Errorf("nothing was received")
		}
		return moved(r.End.SumReceived.Bytes, r.End.SumReceived.Bps, used, cliAfter-cli), nil
	}
}

// moved is the sample of so many bytes at so many bits per second, for which
// server and client used so much.
func moved(bytes, bps float64, server, client time.Duration) sample {
	gb := bytes / 1e9
	return sample{
		cpuPerGB:   server.Seconds() / gb,
		throughput: bps / 1e6,
		clientCPU:  client.Seconds() / gb,
		clientMost: 8e3 * gb / client.Seconds(),
	}
}

// processCPU is what one process has used so far.
func (c *contender) processCPU(pid int) (time.Duration, error) {
	tree, err := lab.Tree(pid)
	if err != nil || len(tree) == 0 {
		return 0, fmt.Errorf("process %d: %w", pid, err)
	}
	return tree[0].CPU, nil
}

// Rates of the rows of small datagrams: what both servers carry.
const (
	smallPayload = 64
	upRate       = "10M" // 20,000 packets a second
	downRate     = "20M" // 39,000
)

// datagrams measures small UDP packets at a fixed rate.
func datagrams(down bool) func(*contender, plan) (sample, error) {
	return func(c *contender, p plan) (sample, error) {
		o, err := c.client(viaDTLS)
		if err != nil {
			return nil, err
		}
		args := []string{"-u", "-l", strconv.Itoa(smallPayload), "-b", upRate}
		if down {
			args = []string{"-u", "-l", strconv.Itoa(smallPayload), "-b", downRate, "-R"}
		}
		var r *iperf
		used, err := c.cpu(func() (err error) {
			r, err = runIperf(o.From, p.seconds, args...)
			return err
		})
		if err != nil {
			return nil, err
		}
		sum := r.End.Sum
		if sum.Packets == 0 || sum.Lost >= sum.Packets {
			return nil, fmt.Errorf("of %v packets %v are lost", sum.Packets, sum.Lost)
		}
		return sample{
			cpuPerPacket: used.Seconds() * 1e6 / (sum.Packets - sum.Lost),
			loss:         100 * sum.Lost / sum.Packets,
		}, nil
	}
}
