package session

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// consistent checks that the three ways to a session agree.
func consistent(t *testing.T, m *Memory) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	people := 0
	for person, theirs := range m.people {
		people += len(theirs)
		if len(theirs) == 0 {
			t.Errorf("%s is kept without a session", person)
		}
	}
	if len(m.sessions) != len(m.expiry) || len(m.sessions) != people {
		t.Errorf("%d sessions, %d in the heap, %d of people", len(m.sessions), len(m.expiry), people)
	}
	for i, s := range m.expiry {
		if s.at != i || m.sessions[s.hash] != s || m.people[s.person][s.hash] != s {
			t.Errorf("session %d of the heap is not where it should be", i)
		}
	}
}

func TestMemoryExpiresTheIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(Lifetime{Idle: time.Minute, Absolute: time.Hour}, time.Now)
		idle, busy := signIn(t, m, "ann", ""), signIn(t, m, "ann", "")
		time.Sleep(time.Minute - time.Millisecond)
		wantSession(t, m, busy.Token, "ann")
		if n := m.Len(); n != 2 {
			t.Errorf("%d sessions a millisecond before the idle one ends, want 2", n)
		}
		time.Sleep(time.Millisecond)
		wantEnded(t, m, idle.Token)
		wantSession(t, m, busy.Token, "ann")
		consistent(t, m)
		time.Sleep(time.Minute)
		if n := m.Len(); n != 0 {
			t.Errorf("%d sessions are left when all are idle", n)
		}
		consistent(t, m)
	})
}

func TestMemoryEndsTheBusyAtTheAbsoluteExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(Lifetime{Idle: time.Minute, Absolute: 5 * time.Minute}, time.Now)
		begin := time.Now()
		session := signIn(t, m, "ann", "")
		if want := begin.Truncate(time.Millisecond).Add(5 * time.Minute); !session.ExpiresAt.Equal(want) {
			t.Errorf("the session ends at %v, want %v", session.ExpiresAt, want)
		}
		for time.Since(begin) < 5*time.Minute-30*time.Second {
			time.Sleep(30 * time.Second)
			next, err := m.Refresh(t.Context(), session.Token)
			if err != nil || !next.ExpiresAt.Equal(session.ExpiresAt) {
				t.Fatalf("after %v: %+v, %v, want the same absolute expiry", time.Since(begin), next, err)
			}
			session = next
		}
		time.Sleep(30 * time.Second)
		wantEnded(t, m, session.Token)
		consistent(t, m)
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(long, time.Now)
		m.most = 10
		var tokens []Token
		for range 15 {
			time.Sleep(time.Second)
			tokens = append(tokens, signIn(t, m, person(t), "").Token)
		}
		if n := m.Len(); n != 10 {
			t.Errorf("%d sessions, want 10", n)
		}
		// Those went that would have expired first.
		for i, token := range tokens {
			time.Sleep(time.Second)
			if _, err := m.Touch(t.Context(), token); (err == nil) != (i >= 5) {
				t.Errorf("session %d of 15: %v", i, err)
			}
		}
		// A touch makes it another's turn.
		time.Sleep(time.Second)
		wantSession(t, m, tokens[5], m.sessions[hashOf(t, tokens[5])].person)
		time.Sleep(time.Second)
		signIn(t, m, person(t), "")
		wantEnded(t, m, tokens[6])
		consistent(t, m)
	})
}

func TestMemoryBoundsThoseOfOnePerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(long, time.Now)
		other, firstOfAnn := signIn(t, m, "bob", ""), signIn(t, m, "ann", "")
		time.Sleep(time.Millisecond)
		for range MaxPerPerson {
			signIn(t, m, "ann", "")
		}
		wantEnded(t, m, firstOfAnn.Token)
		wantSession(t, m, other.Token, "bob")
		if n, err := m.RevokeAll(t.Context(), "ann"); n != MaxPerPerson || err != nil {
			t.Errorf("RevokeAll = %d, %v, want %d", n, err, MaxPerPerson)
		}
		consistent(t, m)
	})
}

func TestMemoryKeepsNoToken(t *testing.T) {
	m := NewMemory(long, time.Now)
	a := signIn(t, m, "ann", "")
	for _, key := range []string{m.expiry[0].hash, m.expiry[0].person} {
		if key == string(a.Token) {
			t.Error("the store holds a token")
		}
	}
	if hashes := slices.Collect(func(yield func(string) bool) {
		for hash := range m.sessions {
			yield(hash)
		}
	}); !slices.Equal(hashes, []string{hashOf(t, a.Token)}) {
		t.Errorf("sessions are kept by %v, want the token's hash", hashes)
	}
}

func hashOf(t *testing.T, token Token) string {
	t.Helper()
	hash, ok := token.hash()
	if !ok {
		t.Fatalf("%q is no token", string(token))
	}
	return hash
}
