package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"managed-credentials/shared/credential"
	"managed-credentials/shared/store"
)

// sizes are those of the binaries, each beside one with the same clients.
func (b *bench) sizes(context.Context) ([]Figure, error) {
	var all []Figure
	paths := b.binaries()
	for _, f := range b.Functions {
		ours, err := os.Stat(f.Bootstrap)
		if err != nil {
			return nil, err
		}
		bare, err := os.Stat(paths[bareOf(f.Name)])
		if err != nil {
			return nil, err
		}
		all = append(all, newFigure("size of "+f.Name, megabytes, []float64{mb(ours.Size())}, []float64{mb(bare.Size())}))
	}
	return all, nil
}

// binaries are the paths of what is compared with our functions, by name.
func (b *bench) binaries() map[string]string {
	all := map[string]string{}
	for _, f := range b.Functions {
		dist := filepath.Dir(filepath.Dir(f.Bootstrap))
		all[bareOf(f.Name)] = filepath.Join(dist, folder, f.Name, "bootstrap")
	}
	return all
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// coldStarts are the times from the start of a process until it asks for its first event.
func (b *bench) coldStarts(context.Context) ([]Figure, error) {
	var all []Figure
	for _, f := range b.Functions {
		progress("cold start of %s", f.Name)
		side := func(name string) func() (time.Duration, error) {
			return func() (time.Duration, error) {
				defer b.host.Kill(name)
				return b.host.Start(name)
			}
		}
		figure, err := pairs("cold start of "+f.Name, b.rounds(40), side(f.Name), side(bareOf(f.Name)))
		if err != nil {
			return nil, err
		}
		all = append(all, figure)
	}
	return all, nil
}

// lister is a side that lists as the user of whom the event is.
func (b *bench) lister(ctx context.Context, function string, event func() []byte) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		of := event()
		return timed(func() error {
			_, err := b.list(ctx, function, of)
			return err
		})
	}
}

// hotLists are lists with nothing missing, of so many credentials.
func (b *bench) hotLists(ctx context.Context) ([]Figure, error) {
	var all []Figure
	for _, n := range []int{1, 10, 100, 1000} {
		progress("lists of %d", n)
		user, event := b.user()
		_, err := b.list(ctx, list, event) // makes the managed one
		if err != nil {
			return nil, err
		}
		err = b.fill(ctx, user, n-1)
		if err != nil {
			return nil, err
		}
		err = b.same(ctx, event)
		if err != nil {
			return nil, err
		}
		same := func() []byte { return event }
		figure, err := pairs(fmt.Sprintf("list of %d", n), b.rounds(400), b.lister(ctx, list, same), b.lister(ctx, bareList, same))
		if err != nil {
			return nil, err
		}
		all = append(all, figure)
	}
	return all, nil
}

// fill gives a user n credentials of their own.
func (b *bench) fill(ctx context.Context, user string, n int) error {
	table := store.New(b.DynamoDB, b.Table, nil)
	ciphertext := []byte(strings.Repeat("c", 300)) // nobody opens it
	for i := range n {
		title, host, hint := fmt.Sprintf("Credential %d", i), fmt.Sprintf("host-%d.example.com", i), "…abcd"
		m := credential.Metadata{ID: credential.NewID(), Provider: fmt.Sprintf("provider_%d", i%7), Type: credential.APIKey, Title: &title, Hint: &hint}
		if i%3 == 0 {
			m.Type, m.Host, m.Hint, m.Stored = credential.HostScoped, &host, nil, []string{"headers.authorization"}
		}
		_, err := table.Create(ctx, user, m, ciphertext)
		if err != nil {
			return err
		}
	}
	return nil
}

// same fails unless both sides list the same.
func (b *bench) same(ctx context.Context, event []byte) error {
	var shown [2]any
	for i, function := range []string{list, bareList} {
		body, err := b.list(ctx, function, event)
		if err != nil {
			return err
		}
		err = json.Unmarshal([]byte(body), &shown[i])
		if err != nil {
			return err
		}
	}
	if !reflect.DeepEqual(shown[0], shown[1]) {
		return fmt.Errorf("the two do not list the same, but %v and %v", shown[0], shown[1])
	}
	return nil
}

// firstLists are lists that make a key, each of another user.
func (b *bench) firstLists(ctx context.Context) ([]Figure, error) {
	progress("first lists")
	another := func() []byte {
		_, event := b.user()
		return event
	}
	figure, err := pairs("first list", b.rounds(300), b.lister(ctx, list, another), b.lister(ctx, bareList, another))
	return []Figure{figure}, err
}

// soak is what both hold in memory after many lists, beside what they held after a tenth of them.
func (b *bench) soak(ctx context.Context) ([]Figure, error) {
	const users = 40 // one alone would meet the limit of what a user may ask
	lists := b.rounds(10_000)
	progress("%d lists each, for what grows", lists)
	var events [][]byte
	for range users {
		_, event := b.user()
		_, err := b.list(ctx, list, event)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	functions := []string{list, bareList}
	var early, late [2]float64
	for i := range lists {
		for _, function := range functions {
			_, err := b.list(ctx, function, events[i%users])
			if err != nil {
				return nil, err
			}
		}
		for side, function := range functions {
			switch i {
			case lists / 10:
				early[side] = mb(b.host.Resident(function))
			case lists - 1:
				late[side] = mb(b.host.Resident(function))
			}
		}
	}
	return []Figure{
		newFigure(fmt.Sprintf("memory after %d lists", lists/10), megabytes, early[:1], early[1:]),
		newFigure(fmt.Sprintf("memory after %d lists", lists), megabytes, late[:1], late[1:]),
	}, nil
}
