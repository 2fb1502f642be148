package snapshot

import "strings"

// spans are how many combinations of domains, of some labels with few domains each, the nodes of each class are in.
type spans struct {
	codes int
	of    map[*class]int
}

// spans finds them at the first need; they are kept as long as the nodes stay as they are, see put.
func (c *cell) spans(of []*dimension) *spans {
	var labels []string
	for _, d := range of {
		labels = append(labels, d.key)
	}
	key := strings.Join(labels, "\x00")
	if known := c.spansOf[key]; known != nil {
		return known
	}
	found := &spans{codes: 1, of: map[*class]int{}}
	for _, d := range of {
		found.codes *= d.size + 1
	}
	seen := map[*class][]bool{}
	for row, class := range c.class {
		if class == nil {
			continue
		}
		if seen[class] == nil {
			seen[class] = make([]bool, found.codes)
		}
		if code := codeOf(of, row); !seen[class][code] {
			seen[class][code] = true
			found.of[class]++
		}
	}
	if c.spansOf == nil {
		c.spansOf = map[string]*spans{}
	}
	c.spansOf[key] = found
	return found
}

// codeOf numbers the combination of domains that a row is in.
func codeOf(of []*dimension, row int) (code int) {
	for _, d := range of {
		code = code*(d.size+1) + int(d.of[row]) + 1
	}
	return code
}
