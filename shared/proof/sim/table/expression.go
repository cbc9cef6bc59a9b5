package table

import (
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// An expression is parsed once and kept: a simulation evaluates the same few again and again.

// condition is a parsed condition, filter or key condition.
type condition interface{ holds(*scope) (bool, error) }

// operand is what stands on a side of a comparison. Its value is nil where the attribute is absent.
type operand interface {
	value(*scope) (types.AttributeValue, error)
}

// scope is what an expression is evaluated in, and which of its names and values were used.
type scope struct {
	item   Item
	names  map[string]string
	values map[string]types.AttributeValue
	// used are the expressions of the request.
	used []*parsed
}

func (s *scope) name(token string) (string, error) {
	if !strings.HasPrefix(token, "#") {
		return token, nil
	}
	name, ok := s.names[token]
	if !ok {
		return "", invalid("an expression attribute name used in the document path is not defined; attribute name: %s", token)
	}
	return name, nil
}

// path is an attribute. Only those at the top level are known here.
type path string

func (p path) value(s *scope) (types.AttributeValue, error) {
	name, err := s.name(string(p))
	if err != nil {
		return nil, err
	}
	return s.item[name], nil
}

// placeholder is a value of the request.
type placeholder string

func (p placeholder) value(s *scope) (types.AttributeValue, error) {
	v, ok := s.values[string(p)]
	if !ok {
		return nil, invalid("an expression attribute value used in expression is not defined; attribute value: %s", string(p))
	}
	return v, nil
}

type (
	comparison struct {
		op          string
		left, right operand
	}
	membership struct {
		of  operand
		all []operand
	}
	negation  struct{ of condition }
	both      struct{ left, right condition }
	either    struct{ left, right condition }
	existence struct {
		of     path
		exists bool
	}
	prefixed struct{ of, prefix operand }
	typed    struct{ of, name operand }
)

func (c comparison) holds(s *scope) (bool, error) {
	left, err := c.left.value(s)
	if err != nil {
		return false, err
	}
	right, err := c.right.value(s)
	if err != nil {
		return false, err
	}
	if left == nil || right == nil {
		return c.op == "<>", nil
	}
	if c.op == "=" || c.op == "<>" {
		equal, err := same(left, right)
		return equal == (c.op == "="), err
	}
	order, comparable, err := compare(left, right)
	if err != nil || !comparable {
		return false, err
	}
	switch c.op {
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">":
		return order > 0, nil
	default:
		return order >= 0, nil
	}
}

func (c membership) holds(s *scope) (bool, error) {
	for _, one := range c.all {
		is, err := comparison{"=", c.of, one}.holds(s)
		if is || err != nil {
			return is, err
		}
	}
	return false, nil
}

func (c negation) holds(s *scope) (bool, error) {
	is, err := c.of.holds(s)
	return !is, err
}

func (c both) holds(s *scope) (bool, error) {
	is, err := c.left.holds(s)
	if !is || err != nil {
		return false, err
	}
	return c.right.holds(s)
}

func (c either) holds(s *scope) (bool, error) {
	is, err := c.left.holds(s)
	if is || err != nil {
		return is, err
	}
	return c.right.holds(s)
}

func (c existence) holds(s *scope) (bool, error) {
	v, err := c.of.value(s)
	return (v != nil) == c.exists, err
}

func (c prefixed) holds(s *scope) (bool, error) {
	v, err := c.of.value(s)
	if err != nil {
		return false, err
	}
	prefix, err := c.prefix.value(s)
	if err != nil {
		return false, err
	}
	text, isText := v.(*types.AttributeValueMemberS)
	begin, ok := prefix.(*types.AttributeValueMemberS)
	return isText && ok && strings.HasPrefix(text.Value, begin.Value), nil
}

func (c typed) holds(s *scope) (bool, error) {
	v, err := c.of.value(s)
	if err != nil || v == nil {
		return false, err
	}
	name, err := c.name.value(s)
	if err != nil {
		return false, err
	}
	text, ok := name.(*types.AttributeValueMemberS)
	return ok && text.Value == typeOf(v), nil
}

// change is one action of an update.
type change struct {
	of path
	// to is what the attribute is set to; nil removes it.
	to operand
}

// unlessExists is if_not_exists(path, otherwise).
type unlessExists struct {
	of        path
	otherwise operand
}

func (u unlessExists) value(s *scope) (types.AttributeValue, error) {
	v, err := u.of.value(s)
	if v != nil || err != nil {
		return v, err
	}
	return u.otherwise.value(s)
}

// parsed is an expression in each of the forms that its text can have, and the tokens in it that
// the request defines.
type parsed struct {
	condition condition
	changes   []change
	paths     []path
	tokens    []string // each once
	err       error
}

// cache holds what was parsed, by its text.
type cache struct {
	mu  sync.RWMutex
	all map[string]*parsed
}

var conditions, updates, projections cache

func (c *cache) parsed(text string, parse func(*parser) parsed) *parsed {
	c.mu.RLock()
	found := c.all[text]
	c.mu.RUnlock()
	if found != nil {
		return found
	}
	p := &parser{tokens: tokenize(text)}
	result := parse(p)
	if result.err == nil {
		result.err = p.err
	}
	if result.err == nil && len(p.tokens) > 0 {
		result.err = invalid("syntax error; token: %q", p.tokens[0])
	}
	for _, token := range tokenize(text) {
		if (token[0] == '#' || token[0] == ':') && !slices.Contains(result.tokens, token) {
			result.tokens = append(result.tokens, token)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]*parsed{}
	}
	c.all[text] = &result
	return &result
}

func conditionOf(text string) *parsed {
	return conditions.parsed(text, func(p *parser) parsed { return parsed{condition: p.disjunction()} })
}

func updateOf(text string) *parsed {
	return updates.parsed(text, func(p *parser) parsed { return parsed{changes: p.update()} })
}

func projectionOf(text string) *parsed {
	return projections.parsed(text, func(p *parser) parsed { return parsed{paths: p.paths()} })
}

func tokenize(text string) []string {
	var tokens []string
	for text != "" {
		switch {
		case strings.ContainsRune(" \t\n", rune(text[0])):
			text = text[1:]
			continue
		case strings.HasPrefix(text, "<="), strings.HasPrefix(text, ">="), strings.HasPrefix(text, "<>"):
			tokens, text = append(tokens, text[:2]), text[2:]
			continue
		}
		end := 1
		if isWord(text[0]) || text[0] == '#' || text[0] == ':' {
			for end < len(text) && isWord(text[end]) {
				end++
			}
		}
		tokens, text = append(tokens, text[:end]), text[end:]
	}
	return tokens
}

func isWord(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// parser takes an expression apart, from its first token to its last.
type parser struct {
	tokens []string
	err    error
}

func (p *parser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *parser) next() string {
	token := p.peek()
	if token != "" {
		p.tokens = p.tokens[1:]
	}
	return token
}

// take consumes the token, without regard to case, and reports whether it stood there.
func (p *parser) take(token string) bool {
	if !strings.EqualFold(p.peek(), token) {
		return false
	}
	p.next()
	return true
}

func (p *parser) want(token string) {
	if !p.take(token) {
		p.fail()
	}
}

func (p *parser) fail() {
	if p.err == nil {
		p.err = invalid("syntax error; token: %q", p.peek())
	}
	p.tokens = nil
}

func (p *parser) disjunction() condition {
	c := p.conjunction()
	for p.take("OR") {
		c = either{c, p.conjunction()}
	}
	return c
}

func (p *parser) conjunction() condition {
	c := p.negated()
	for p.take("AND") {
		c = both{c, p.negated()}
	}
	return c
}

func (p *parser) negated() condition {
	if p.take("NOT") {
		return negation{p.negated()}
	}
	if p.take("(") {
		c := p.disjunction()
		p.want(")")
		return c
	}
	return p.predicate()
}

func (p *parser) predicate() condition {
	switch {
	case p.take("attribute_exists"):
		return existence{p.argument(), true}
	case p.take("attribute_not_exists"):
		return existence{p.argument(), false}
	case p.take("begins_with"):
		of, prefix := p.two()
		return prefixed{of, prefix}
	case p.take("attribute_type"):
		of, name := p.two()
		return typed{of, name}
	}
	left := p.operand()
	if p.take("IN") {
		p.want("(")
		in := membership{of: left}
		for {
			in.all = append(in.all, p.operand())
			if !p.take(",") {
				break
			}
		}
		p.want(")")
		return in
	}
	switch op := p.next(); op {
	case "=", "<>", "<", "<=", ">", ">=":
		return comparison{op, left, p.operand()}
	default:
		p.fail()
		return negation{}
	}
}

func (p *parser) argument() path {
	p.want("(")
	of := p.path()
	p.want(")")
	return of
}

func (p *parser) two() (path, operand) {
	p.want("(")
	of := p.path()
	p.want(",")
	other := p.operand()
	p.want(")")
	return of, other
}

func (p *parser) path() path {
	token := p.next()
	if token == "" || token[0] != '#' && !isWord(token[0]) {
		p.fail()
	}
	return path(token)
}

func (p *parser) operand() operand {
	if strings.HasPrefix(p.peek(), ":") {
		return placeholder(p.next())
	}
	return p.path()
}

func (p *parser) paths() []path {
	all := []path{p.path()}
	for p.take(",") {
		all = append(all, p.path())
	}
	return all
}

func (p *parser) update() []change {
	var all []change
	for len(p.tokens) > 0 {
		switch {
		case p.take("SET"):
			for {
				of := p.path()
				p.want("=")
				all = append(all, change{of, p.assigned()})
				if !p.take(",") {
					break
				}
			}
		case p.take("REMOVE"):
			for _, of := range p.paths() {
				all = append(all, change{of: of})
			}
		default:
			p.fail()
		}
	}
	return all
}

func (p *parser) assigned() operand {
	if !p.take("if_not_exists") {
		return p.operand()
	}
	of, otherwise := p.two()
	return unlessExists{of, otherwise}
}

// use notes which of the request's names and values the expression has, and checks that they are
// there.
func (s *scope) use(e *parsed) error {
	if e.err != nil {
		return e.err
	}
	for _, token := range e.tokens {
		if token[0] == '#' {
			_, err := s.name(token)
			if err != nil {
				return err
			}
			continue
		}
		_, err := placeholder(token).value(s)
		if err != nil {
			return err
		}
	}
	s.used = append(s.used, e)
	return nil
}

func (s *scope) uses(token string) bool {
	return slices.ContainsFunc(s.used, func(e *parsed) bool { return slices.Contains(e.tokens, token) })
}

// unused is an error if the request has a name or a value that no expression has.
func (s *scope) unused() error {
	distinct := 0 // of the tokens, each of which is defined
	for i, e := range s.used {
		distinct += len(e.tokens)
		for _, before := range s.used[:i] {
			for _, token := range e.tokens {
				if slices.Contains(before.tokens, token) {
					distinct--
				}
			}
		}
	}
	if len(s.used) < 3 && distinct == len(s.names)+len(s.values) {
		return nil
	}
	for token := range s.names {
		if !s.uses(token) {
			return invalid("value provided in ExpressionAttributeNames unused in expressions: keys: {%s}", token)
		}
	}
	for token := range s.values {
		if !s.uses(token) {
			return invalid("value provided in ExpressionAttributeValues unused in expressions: keys: {%s}", token)
		}
	}
	return nil
}
