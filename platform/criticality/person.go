package criticality

import (
	"hash/fnv"
	"io"
	"strings"
	"time"
)

// ClassOf tells a person's class by the end of the person's id: NAME.critical and NAME.sheddable are of these classes, all
// others are standard. It stands in for the account directory that a real system would ask.
func ClassOf(person string) Class {
	if dot := strings.LastIndexByte(person, '.'); dot > 0 {
		if class, ok := ParseClass(person[dot+1:]); ok {
			return class
		}
	}
	return Standard
}

// Hash stands for a person where the id itself is not to be known. Two people may share one.
func Hash(person string) uint32 {
	h := fnv.New32a()
	_, _ = io.WriteString(h, person) // a hash takes everything
	return h.Sum32()
}

// BandOf gives the band of a person's Hash at a time. It changes with every hour of UTC, so that it is not always the same
// people who are turned away (DAGOR, 4.2.2).
func BandOf(hash uint32, at time.Time) Band {
	// The finisher of MurmurHash3 (A. Appleby, public domain): every bit of hash and hour moves every bit of the result.
	x := uint64(hash)<<32 | uint64(uint32(at.Unix()/int64(time.Hour/time.Second)))
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return Band(x % Bands)
}
