package mainproc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"rocserv/internal/ban"
	"rocserv/internal/ipc"
)

// session-store: a file in which cookies, leases and bans outlive the server.
//
// What is in it is what main has: hashes of cookies, and sec-mod's sealed
// records, which open with a server key only. So the file is no secret more
// than the log, and whoever changes it can end sessions but not make one.
//
// It is written a second after something has changed, by a goroutine of its own,
// and nobody waits for it: a disk that is slow or full costs what is lost with
// the next restart, and nothing else.

const (
	storeVersion = "1"
	storeEvery   = time.Second
	storeLock    = time.Second      // for another server to let go of the file
	bansEvery    = 10               // times storeEvery: points change with every connection
	storeTrouble = 10 * time.Minute // between two words about it
)

// Buckets of the file. Each value is JSON but the keyring's.
const (
	storeMeta     = "meta"     // version, keyring
	storeRecords  = "records"  // recordState by safe id
	storeSessions = "sessions" // sessionState by safe id
	storeBans     = "bans"     // ban.Saved by their order
)

// image is the content of a store: buckets of values by key.
type image map[string]map[string][]byte

func newImage() image {
	return image{storeMeta: {}, storeRecords: {}, storeSessions: {}, storeBans: {}}
}

// store is an open file. Its methods are called by one goroutine at a time.
type store struct {
	db      *bolt.DB
	log     *slog.Logger
	last    image // what the file has
	trouble notice
	stop    chan struct{}
	done    chan struct{}
}

// openStore opens the file, or makes it, and returns what is in it.
func openStore(name string, log *slog.Logger) (s *store, was image, err error) {
	defer recoverStore(&err)
	db, err := bolt.Open(name, 0o600, &bolt.Options{Timeout: storeLock, NoStatistics: true})
	if err == berrors.ErrTimeout {
		return nil, nil, fmt.Errorf("mainproc: session-store %s is in use by another process", name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("mainproc: session-store %s: %w", name, err)
	}
	s = &store{
		db: db, log: log, last: newImage(), trouble: notice{every: storeTrouble},
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	if err := s.read(); err != nil {
		db.Close()
		return nil, nil, fmt.Errorf("mainproc: session-store %s: %w", name, err)
	}
	return s, s.last, nil
}

// recoverStore makes an error of what a damaged file does to its reader: it is
// mapped into memory.
func recoverStore(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("mainproc: session-store is damaged (%v): remove the file", r)
	}
}

func (s *store) read() error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return s.db.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket([]byte(storeMeta)); b != nil && string(b.Get([]byte("version"))) != storeVersion {
			return fmt.Errorf("it is of version %q, this program reads %s: remove the file", b.Get([]byte("version")), storeVersion)
		}
		for bucket, values := range s.last {
			b := tx.Bucket([]byte(bucket))
			if b == nil {
				continue
			}
			if err := b.ForEach(func(k, v []byte) error {
				values[string(k)] = bytes.Clone(v)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
}

// write makes the file have what now has: only what differs is touched.
func (s *store) write(now image) (err error) {
	defer recoverStore(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if same(s.last, now) {
		return nil
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		for bucket, values := range now {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			if err := update(b, s.last[bucket], values); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		s.last = now
	}
	return err
}

func update(b *bolt.Bucket, was, now map[string][]byte) error {
	for k := range was {
		if _, there := now[k]; !there {
			if err := b.Delete([]byte(k)); err != nil {
				return err
			}
		}
	}
	for k, v := range now {
		if old, there := was[k]; !there || !bytes.Equal(old, v) {
			if err := b.Put([]byte(k), v); err != nil {
				return err
			}
		}
	}
	return nil
}

func same(a, b image) bool {
	for bucket, values := range b {
		if len(values) != len(a[bucket]) {
			return false
		}
		for k, v := range values {
			if old, there := a[bucket][k]; !there || !bytes.Equal(old, v) {
				return false
			}
		}
	}
	return true
}

// keepStore writes until the store is closed, and then once more.
func (s *server) keepStore() {
	st := s.store
	defer close(st.done)
	t := time.NewTicker(storeEvery)
	defer t.Stop()
	var rev uint64
	for tick := 1; ; tick++ {
		select {
		case <-st.stop:
			s.saveStore()
			st.db.Close()
			return
		case <-t.C:
		}
		if now := s.records.rev.Load() + s.sessions.rev.Load(); now != rev || tick%bansEvery == 0 {
			if s.saveStore() {
				rev = now
			}
		}
	}
}

func (s *server) saveStore() bool {
	err := s.store.write(s.imageOf())
	if err == nil {
		return true
	}
	if n := s.store.trouble.due(time.Now()); n > 0 {
		s.log.Error("session-store is not written; sessions since would not outlive the server", "err", err, "times", n)
	}
	return false
}

// closeStore writes what is left. It may be called twice, and without a store.
func (s *server) closeStore() {
	if s.store == nil {
		return
	}
	close(s.store.stop)
	<-s.store.done
	s.store = nil
}

// imageOf is what is worth keeping of the server.
func (s *server) imageOf() image {
	m := newImage()
	put := func(bucket, key string, v any) {
		if b, err := json.Marshal(v); err == nil {
			m[bucket][key] = b
		}
	}
	m[storeMeta]["version"] = []byte(storeVersion)
	m[storeMeta]["keyring"] = s.records.lastKeyring()
	for _, r := range s.records.save() {
		put(storeRecords, r.SafeID, r)
	}
	all, _ := s.sessions.save()
	for _, v := range all {
		if v.Ended {
			continue
		}
		v.Newest, v.Older, v.App, v.PSKHash, v.Info, v.Since = 0, nil, nil, nil, nil, time.Time{}
		put(storeSessions, v.SafeID, v)
	}
	for i, b := range s.bans.Save(time.Now()) {
		put(storeBans, fmt.Sprintf("%08d", i), b)
	}
	return m
}

// openStore opens the file that the configuration names. What is wrong with it
// costs the sessions of before, and nothing else.
func (s *server) openStore() {
	name := s.settings().SessionStore
	if name == "" {
		return
	}
	st, was, err := openStore(name, s.log)
	if err != nil {
		s.log.Error("the server runs without a session-store: cookies and bans end with it", "err", err)
		return
	}
	s.store, s.memory = st, was
}

// remember makes the keyring and the bans of the store those in effect. Sessions
// come when there is a sec-mod (recall).
func (s *server) remember() {
	if s.memory == nil {
		return
	}
	s.records.setKeyring(s.memory[storeMeta]["keyring"])
	var records []recordState
	for _, b := range s.memory[storeRecords] {
		var v recordState
		if json.Unmarshal(b, &v) == nil && v.SafeID != "" && len(v.Sealed) <= ipc.MaxSession {
			records = append(records, v)
		}
	}
	s.records.take(records)
	var bans []ban.Saved
	for i := range len(s.memory[storeBans]) {
		var v ban.Saved
		if json.Unmarshal(s.memory[storeBans][fmt.Sprintf("%08d", i)], &v) == nil {
			bans = append(bans, v)
		}
	}
	s.bans.Restore(bans)
}

// recall gives sec-mod the records of the store, and their sessions the leases
// they had.
func (s *server) recall() {
	was := s.memory
	s.memory = nil
	if was == nil || len(was[storeRecords]) == 0 {
		return
	}
	refused, err := s.restoreSessions(s.sec)
	if err != nil || refused > 0 { // of another key, or no records at all: none of them will open
		s.log.Error("the session-store's sessions are lost: clients must log in again", "err", err, "refused", strconv.Itoa(int(refused)))
		s.records.forgetAll()
		return
	}
	n := 0
	for _, v := range s.held(was[storeSessions]) {
		if err := s.sessions.take([]sessionState{v}, nil, nil); err != nil {
			s.log.Warn("a session of the session-store is lost", "err", err)
			continue
		}
		n++
	}
	s.log.Info("sessions of the session-store", "records", len(was[storeRecords]), "leases", n)
}

// held are the stored sessions of which sec-mod has a record, in the order of
// their devices.
func (s *server) held(stored map[string][]byte) (all []sessionState) {
	known := make(map[string]bool)
	for _, r := range s.records.save() {
		known[r.SafeID] = true
	}
	for _, b := range stored {
		var v sessionState
		if json.Unmarshal(b, &v) == nil && known[v.SafeID] && v.Newest == 0 && len(v.Older) == 0 {
			all = append(all, v)
		}
	}
	slices.SortFunc(all, func(a, b sessionState) int { return a.Number - b.Number })
	return all
}
