package session

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// MaxInMemory bounds the sessions that a Memory holds, some 40 MB of them; a sign-in beyond it ends the one that would
// expire first, whosever it is.
const MaxInMemory = 100_000

// Memory keeps sessions in this process alone: they are lost with it, and no other replica knows them. So all calls for a
// session must reach the same replica, and RevokeAll reaches those of a person's sessions that are here. It is what a
// study of sticky sessions is about; for all else there is Store. It is safe for concurrent use.
//
// Its sessions live as long as Store's do, and it answers as Store does, but for DEPENDENCY_AWAY. It does not look at its
// contexts, since nothing here waits.
type Memory struct {
	life Lifetime
	most int // sessions in all
	now  func() time.Time

	mu       sync.Mutex
	sessions map[string]*held            // by the token's hash
	people   map[string]map[string]*held // by person, then by hash
	expiry   byExpiry
}

// held is one session.
type held struct {
	hash, person string
	ends         time.Time // absolute expiry
	expires      time.Time // the earlier of idle and absolute expiry
	at           int       // its place in the heap
}

// NewMemory makes an empty store that reads the time from now. The lifetime must be valid.
func NewMemory(life Lifetime, now func() time.Time) *Memory {
	return &Memory{life: life, most: MaxInMemory, now: now, sessions: map[string]*held{}, people: map[string]map[string]*held{}}
}

// Len is how many sessions are held now.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	return len(m.sessions)
}

// SignIn opens a session of a person and ends the one that the caller came with, if it is here.
func (m *Memory) SignIn(_ context.Context, person string, previous Token) (Session, error) {
	token := newToken()
	hash, _ := token.hash()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.expire()
	if old, ok := previous.hash(); ok {
		m.drop(m.sessions[old])
	}
	s := m.create(hash, person, now.Add(m.life.Absolute), now)
	return Session{Person: person, Token: token, ExpiresAt: s.ends}, nil
}

// Touch tells whose session it is and puts its idle expiry off.
func (m *Memory) Touch(_ context.Context, token Token) (Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.expire()
	s := m.find(token)
	if s == nil {
		return Session{}, errInvalid
	}
	m.renew(s, now)
	heap.Fix(&m.expiry, s.at)
	return Session{Person: s.person, ExpiresAt: s.ends}, nil
}

// Refresh exchanges a token for a new one; the absolute expiry stays what it was.
func (m *Memory) Refresh(_ context.Context, token Token) (Session, error) {
	next := newToken()
	hash, _ := next.hash()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.expire()
	old := m.find(token)
	if old == nil {
		return Session{}, errInvalid
	}
	m.drop(old)
	s := m.create(hash, old.person, old.ends, now)
	return Session{Person: s.person, Token: next, ExpiresAt: s.ends}, nil
}

// Revoke ends one session and tells how many that were: 1, or 0 when there is none here.
func (m *Memory) Revoke(_ context.Context, token Token) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	s := m.find(token)
	if s == nil {
		return 0, nil
	}
	m.drop(s)
	return 1, nil
}

// RevokeAll ends every session of a person that is here and tells how many those were.
func (m *Memory) RevokeAll(_ context.Context, person string) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	ended := 0
	for _, s := range m.people[person] {
		m.drop(s)
		ended++
	}
	return ended, nil
}

// What follows runs under m.mu.

// expire ends the sessions whose time is over and gives the time, to the millisecond as Redis keeps it.
func (m *Memory) expire() time.Time {
	now := m.now().Truncate(time.Millisecond)
	for len(m.expiry) > 0 && !m.expiry[0].expires.After(now) {
		m.drop(m.expiry[0])
	}
	return now
}

func (m *Memory) find(token Token) *held {
	hash, ok := token.hash()
	if !ok {
		return nil
	}
	return m.sessions[hash]
}

func (m *Memory) create(hash, person string, ends, now time.Time) *held {
	s := &held{hash: hash, person: person, ends: ends}
	m.renew(s, now)
	m.sessions[hash] = s
	theirs := m.people[person]
	if theirs == nil {
		theirs = map[string]*held{}
		m.people[person] = theirs
	}
	theirs[hash] = s
	heap.Push(&m.expiry, s)
	if len(theirs) > MaxPerPerson {
		m.drop(first(theirs))
	}
	if len(m.sessions) > m.most {
		m.drop(m.expiry[0])
	}
	return s
}

// renew puts the idle expiry off, as far as the absolute one.
func (m *Memory) renew(s *held, now time.Time) {
	s.expires = now.Add(m.life.Idle)
	if s.ends.Before(s.expires) {
		s.expires = s.ends
	}
}

// drop ends a session; nil is none.
func (m *Memory) drop(s *held) {
	if s == nil {
		return
	}
	heap.Remove(&m.expiry, s.at)
	delete(m.sessions, s.hash)
	theirs := m.people[s.person]
	delete(theirs, s.hash)
	if len(theirs) == 0 {
		delete(m.people, s.person)
	}
}

// first is the session that would expire first, of one person's.
func first(sessions map[string]*held) *held {
	var least *held
	for _, s := range sessions {
		if least == nil || before(s, least) {
			least = s
		}
	}
	return least
}

// before orders sessions by expiry, and those of one millisecond in some order that stays.
func before(a, b *held) bool {
	if !a.expires.Equal(b.expires) {
		return a.expires.Before(b.expires)
	}
	return a.hash < b.hash
}

// byExpiry is a heap.Interface over sessions: the one that would expire first is the root.
type byExpiry []*held

func (h byExpiry) Len() int           { return len(h) }
func (h byExpiry) Less(i, j int) bool { return before(h[i], h[j]) }
func (h byExpiry) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

// Push implements heap.Interface.
func (h *byExpiry) Push(x any) {
	s := x.(*held)
	s.at = len(*h)
	*h = append(*h, s)
}

// Pop implements heap.Interface.
func (h *byExpiry) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}
