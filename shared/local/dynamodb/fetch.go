package dynamodb

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// archive is a gzipped tar file with DynamoDB Local in it.
type archive struct {
	// name is that of the directory to unpack to; it has to change with the contents.
	name string
	// sha256 is the file's checksum in hexadecimal.
	sha256 string
	// download puts the file into dir and returns its path.
	download func(ctx context.Context, dir string) (string, error)
}

// npmPackage is where AWS publishes DynamoDB Local for its own Amplify. It was found to pass 36 of
// 40 checks against DynamoDB's documented behaviour, every one about atomicity among them.
var npmPackage = archive{
	name:   "dynamodb-local-1.25.1",
	sha256: "3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9",
	download: func(ctx context.Context, dir string) (string, error) {
		cmd := exec.CommandContext(ctx, "npm", "pack", "--silent", "amplify-dynamodb-simulator@2.9.30")
		cmd.Dir = dir
		return filepath.Join(dir, "amplify-dynamodb-simulator-2.9.30.tgz"), run(cmd)
	},
}

// emulator is the folder of the archive that holds DynamoDB Local.
const emulator = "package/emulator/"

// fetch returns the directory with DynamoDB Local, below cache, and gets it first if it is not
// there. Several programs may do so at once: the directory appears whole or not at all.
func fetch(ctx context.Context, cache string, a archive, log io.Writer) (string, error) {
	dir := filepath.Join(cache, a.name)
	_, err := os.Stat(dir)
	if err == nil {
		return dir, nil
	}
	err = os.MkdirAll(cache, 0o755)
	if err != nil {
		return "", fmt.Errorf("making the cache directory: %w", err)
	}
	work, err := os.MkdirTemp(cache, ".fetching-")
	if err != nil {
		return "", fmt.Errorf("making a working directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(work) }()

	_, _ = fmt.Fprintf(log, "Fetching DynamoDB Local, once, 57 MB, into %s. It is under a licence of AWS's own, see LICENSE.txt there …\n", dir)
	file, err := a.download(ctx, work)
	if err != nil {
		return "", fmt.Errorf("downloading: %w", err)
	}
	err = verify(file, a.sha256)
	if err != nil {
		return "", fmt.Errorf("verifying the download: %w", err)
	}
	unpacked := filepath.Join(work, "unpacked")
	err = unpack(file, unpacked)
	if err != nil {
		return "", fmt.Errorf("unpacking: %w", err)
	}
	err = os.Rename(unpacked, dir)
	if err == nil {
		return dir, nil
	}
	// Somebody else may have come first.
	_, statErr := os.Stat(dir)
	if statErr != nil {
		return "", fmt.Errorf("moving it into place: %w", err)
	}
	return dir, nil
}

func verify(file, want string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	if err != nil {
		return err
	}
	got := hex.EncodeToString(sum.Sum(nil))
	if got != want {
		return fmt.Errorf("its SHA-256 is %s and should be %s", got, want)
	}
	return nil
}

// unpack writes the files of the emulator's folder into a new directory, and nothing outside of it.
func unpack(file, dir string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	err = os.Mkdir(dir, 0o755)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir) // Nothing below can leave it, whatever the names in the archive are.
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()

	for entries := tar.NewReader(unzipped); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, wanted := strings.CutPrefix(entry.Name, emulator)
		if !wanted || entry.Typeflag != tar.TypeReg {
			continue
		}
		err = write(root, name, entries)
		if err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
}

func write(root *os.Root, name string, contents io.Reader) error {
	err := root.MkdirAll(path.Dir(name), 0o755)
	if err != nil {
		return err
	}
	f, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, contents)
	return errors.Join(err, f.Close())
}
