package configs

import "reflect"

// SameFile reports whether both were loaded from the same content.
func (c *Config) SameFile(other *Config) bool { return c.sum == other.sum }

// HasSum reports whether it was loaded from the content that Watch reported with sum.
func (c *Config) HasSum(sum uint64) bool { return c.sum == sum }

// Changed names the keys outside the rules whose values differ between the two,
// in the order of the sections: broker.url, web.listen.
func (c *Config) Changed(other *Config) (paths []string) {
	values := other.scalars()
	c.document().eachScalar(func(f *field, v reflect.Value) {
		if !reflect.DeepEqual(v.Interface(), values[f.path]) {
			paths = append(paths, f.path)
		}
	})
	return paths
}

// scalars returns the values outside the rules, by path.
func (c *Config) scalars() map[string]any {
	values := make(map[string]any)
	c.document().eachScalar(func(f *field, v reflect.Value) { values[f.path] = v.Interface() })
	return values
}

// document returns the sections, which is all but the rules.
func (c *Config) document() *document {
	return &document{Broker: c.Broker, Queue: c.Queue, Spool: c.Spool, Loops: c.Loops, Web: c.Web, Control: c.Control, Log: c.Log}
}

func (d *document) eachScalar(visit func(f *field, v reflect.Value)) {
	schema().scalars(reflect.ValueOf(d).Elem(), visit)
}
