//go:build !linux

package dynamodb

import "errors"

// confine is what only Linux can do.
func confine(string) (launcher, error) {
	return nil, errors.New("only Linux has networks of a process's own")
}
