package dynamodb

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// tarball writes a small archive and returns it as fetch takes it, with a count of its downloads.
func tarball(t *testing.T, entries ...tar.Header) (archive, *atomic.Int32) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "source.tgz")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	zipped := gzip.NewWriter(io.MultiWriter(f, sum))
	w := tar.NewWriter(zipped)
	for _, entry := range entries {
		entry.Mode = 0o644
		contents := "contents of " + entry.Name
		if entry.Typeflag == tar.TypeReg {
			entry.Size = int64(len(contents))
		}
		err = w.WriteHeader(&entry)
		if err != nil {
			t.Fatal(err)
		}
		if entry.Typeflag == tar.TypeReg {
			_, _ = io.WriteString(w, contents)
		}
	}
	for _, c := range []io.Closer{w, zipped, f} {
		err = c.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	downloads := &atomic.Int32{}
	return archive{
		name:   "dynamodb-local-test",
		sha256: hex.EncodeToString(sum.Sum(nil)),
		download: func(_ context.Context, dir string) (string, error) {
			downloads.Add(1)
			return file, nil
		},
	}, downloads
}

func regular(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }

func files(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, strings.TrimPrefix(path, dir))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFetchUnpacksTheEmulatorsFilesAndNothingElse(t *testing.T) {
	t.Parallel()
	a, downloads := tarball(t,
		regular("package/index.js"),
		regular(emulator+"DynamoDBLocal.jar"),
		regular(emulator+"lib/a.jar"),
		tar.Header{Name: emulator + "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
	)
	cache := filepath.Join(t.TempDir(), "cache")
	for range 2 {
		dir, err := fetch(t.Context(), cache, a, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(files(t, dir), " ")
		if want := "/DynamoDBLocal.jar /lib/a.jar"; got != want {
			t.Fatalf("unpacked %q, want %q", got, want)
		}
	}
	if n := downloads.Load(); n != 1 {
		t.Fatalf("%d downloads, want 1", n)
	}
	left, err := os.ReadDir(cache)
	if err != nil || len(left) != 1 {
		t.Fatalf("the cache holds %v (%v), want the one directory", left, err)
	}
}

func TestFetchTakesNothingWithAnotherChecksum(t *testing.T) {
	t.Parallel()
	a, _ := tarball(t, regular(emulator+"DynamoDBLocal.jar"))
	a.sha256 = strings.Repeat("0", 64)
	cache := t.TempDir()
	_, err := fetch(t.Context(), cache, a, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Fatalf("err = %v, want one about the SHA-256", err)
	}
	if left := files(t, cache); len(left) > 0 {
		t.Fatalf("left behind: %v", left)
	}
}

func TestFetchWritesNothingOutsideOfItsDirectory(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../../../escaped", "/../escaped", "lib/../../escaped"} {
		a, _ := tarball(t, regular(emulator+name))
		outer := t.TempDir()
		_, err := fetch(t.Context(), filepath.Join(outer, "a", "b"), a, io.Discard)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if left := files(t, outer); len(left) > 0 {
			t.Errorf("%s: wrote %v", name, left)
		}
	}
}

func TestFetchIsSafeForSeveralAtOnce(t *testing.T) {
	t.Parallel()
	a, _ := tarball(t, regular(emulator+"DynamoDBLocal.jar"))
	cache := t.TempDir()
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			dir, err := fetch(t.Context(), cache, a, io.Discard)
			if err != nil {
				t.Error(err)
				return
			}
			if got := files(t, dir); len(got) != 1 {
				t.Errorf("found %v", got)
			}
		})
	}
	group.Wait()
}
