package main

import (
	"fmt"
	"time"

	"rocserv/test/e2e/lab"
)

// trimWait is how long a worker may take after its last packet to give memory
// back: 30 s, and the 10 s between two looks at the clock.
const trimWait = 44 * time.Second

// idleWait lets the MTU probes be over.
const idleWait = 2 * time.Second

// idleMemory is the private memory of the worker of a client that does nothing,
// beside that of another one with DTLS: what all workers have mapped is nobody's own.
func idleMemory(c *contender, _ plan) (sample, error) {
	if c.isFloor() {
		return c.floorMemory()
	}
	if _, err := c.client(viaPath); err != nil {
		return nil, err
	}
	w, err := c.worker(viaDTLS)
	if err != nil {
		return nil, err
	}
	time.Sleep(idleWait)
	n, err := lab.Private(w.PID)
	if err != nil {
		return nil, err
	}
	return sample{megabytes: float64(n) / 1e6}, nil
}

// moveForMemory is what comes before usedMemory, on every contender before the
// first waits.
func moveForMemory(c *contender, _ plan) error {
	if _, err := c.client(viaPath); err != nil {
		return err
	}
	o, err := c.client(viaDTLS)
	if err != nil {
		return err
	}
	done, err := lab.Fetch(o.From, 60*time.Second, lab.Transfer{Host: lab.Tgt4, Bytes: 100e6})
	if err == nil && done[0].Err != "" {
		err = fmt.Errorf("100 MB: %s", done[0].Err)
	}
	c.moved = time.Now()
	return err
}

// usedMemory is the private memory of the worker whose client has downloaded
// 100 MB and been idle since.
func usedMemory(c *contender, _ plan) (sample, error) {
	time.Sleep(time.Until(c.moved.Add(trimWait)))
	w, err := c.worker(viaDTLS)
	if err != nil {
		return nil, err
	}
	n, err := lab.Private(w.PID)
	if err != nil {
		return nil, err
	}
	return sample{megabytes: float64(n) / 1e6}, nil
}
