package stack

import (
	"maps"

	"managed-credentials/shared/local/lambda"
	"managed-credentials/shared/local/template"
)

// Version is where another version of the service is.
type Version struct {
	// Dir is a directory of its repository, whose template says what its functions are given.
	Dir string
	// Dist holds its built functions, <function>/bootstrap.
	Dist string
	// Env are values of its functions' variables, in place of those that this stack's have.
	Env map[string]string
}

// Beside starts the functions of another version beside this stack's, as while a deployment shifts
// from one to the other: they have the table, the keys, the users and the third parties in common,
// and a gateway each. It returns the origin of the other one's API, until Close.
func (s *Stack) Beside(v Version) (url string, err error) {
	deployed, err := template.Load(v.Dir)
	if err != nil {
		return "", err
	}
	binaries, err := findBinaries(Config{Dist: v.Dist}, deployed.Functions)
	if err != nil {
		return "", err
	}
	env := &environment{values: maps.Clone(s.env.values)}
	maps.Copy(env.values, v.Env)
	functions, err := env.functions(deployed.Functions, binaries)
	if err != nil {
		return "", err
	}
	host := lambda.New(lambda.Config{Functions: functions, Log: s.log})
	s.onClose(host.Close)
	return s.startGateway(Config{}, deployed, host)
}
