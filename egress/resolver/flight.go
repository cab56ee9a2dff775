package resolver

import (
	"container/list"
	"crypto/rand"
	"encoding/binary"
	"time"
)

// try is a query sent to one server.
type try struct {
	q        *query
	link     *link
	id       uint16 // transaction id
	deadline time.Time
	elem     *list.Element // nil: timed out, though a late answer is still welcome
}

// flight holds the tries an answer may come to.
type flight struct {
	byID    map[uint16]*try
	waiting list.List // of *try that have not timed out, the next to do so first
	queries int
	random  [128]byte // not used yet: the first left bytes
	left    int
}

func newFlight() flight { return flight{byID: make(map[uint16]*try)} }

// add gives t an id that cannot be guessed and is not in use (RFC 5452 section
// 9.2) and notes it.
func (f *flight) add(t *try) {
	for {
		t.id = f.draw()
		if _, used := f.byID[t.id]; !used {
			break
		}
	}
	f.byID[t.id] = t
	f.await(t)
}

// await lets a try time out. All wait equally long, so its place is the last.
func (f *flight) await(t *try) {
	if t.elem == nil {
		t.elem = f.waiting.PushBack(t)
	} else {
		f.waiting.MoveToBack(t.elem)
	}
}

func (f *flight) draw() uint16 {
	if f.left == 0 {
		rand.Read(f.random[:])
		f.left = len(f.random)
	}
	f.left -= 2
	return binary.NativeEndian.Uint16(f.random[f.left:])
}

// next is the try that times out next, nil if none waits.
func (f *flight) next() *try {
	if e := f.waiting.Front(); e != nil {
		return e.Value.(*try)
	}
	return nil
}

// expire takes t out of those that wait; its late answer is still taken.
func (f *flight) expire(t *try) {
	if t.elem != nil {
		f.waiting.Remove(t.elem)
		t.elem = nil
	}
}

func (f *flight) remove(t *try) {
	f.expire(t)
	delete(f.byID, t.id)
}

// of gives the waiting tries of a link, the next to time out first.
func (f *flight) of(l *link) []*try {
	var ts []*try
	for e := f.waiting.Front(); e != nil; e = e.Next() {
		if t := e.Value.(*try); t.link == l {
			ts = append(ts, t)
		}
	}
	return ts
}

// on gives all tries of a link, those that have timed out too.
func (f *flight) on(l *link) []*try {
	var ts []*try
	for _, t := range f.byID {
		if t.link == l {
			ts = append(ts, t)
		}
	}
	return ts
}
