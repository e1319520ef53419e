package configs

import (
	"cmp"
	"slices"
	"strings"
)

// otherWords are what other programs, and their configurations, call the keys of
// this one: who comes from there writes them out of habit. Letters and digits only,
// see plainWord.
var otherWords = []struct{ key, words string }{
	// of the rules
	{"filter", "topic topics topicfilter topicpattern pattern subscribe subscription subscriptions match mqtttopic"},
	{"topic", "mqtttopic publish publishtopic topictemplate"},
	{"group", "dest destination dst dstip dstaddr daddr addr address ip ipaddr target host endpoint multicast mcast multicastaddress multicastaddr multicastgroup multicastip mcastaddr mcastgroup mcastip maddr mgroup groups grp groupaddress to sendto listen join remote url"},
	{"interface", "iface ifname ifaces intf if nic dev device netdev link interfaces networkinterface netinterface multicastinterface multicastif mcastif mcastinterface outinterface ininterface bindinterface oif iif ifindex egress"},
	{"source", "src srcip srcaddr saddr sourceip sourceaddr sourceaddress localaddr localaddress localip bind bindaddr bindaddress bindto from sources sourceips sender senders allowedsources multicastsource sourcefilter allow ssm"},
	{"source_port", "srcport sport localport bindport"},
	{"ttl", "hops hoplimit multicastttl multicasthops mcastttl timetolive"},
	{"loopback", "loop multicastloop multicastloopback mcastloop iploop"},
	{"dscp", "tos trafficclass diffserv dsfield"},
	{"share", "shared sharedsubscription sharename sharegroup queue queuegroup consumergroup"},
	{"retained", "retain retainhandling"},
	{"metadata", "userproperties properties props meta headers attributes"},
	{"content_type", "mimetype mediatype mime contenttype"},
	{"retain", "retained"},
	{"on_down", "onfailure onerror whendown"},
	{"max_age", "expiry expire expires messageexpiry maxdelay"},
	{"payload", "format encoding codec dataformat transform decode encode body"},
	{"oversize", "mtu fragment dontfragment df"},
	{"every", "interval rate ratelimit throttle minperiod mininterval debounce period limit"},
	{"on_change", "changed changes onlychanges distinct dedup dedupe deduplicate unique rbe reportbyexception filterunchanged"},
	{"rate", "ratelimit throttle pace pacing maxrate limit interval spacing"},
	{"when_over", "onlimit overflow whenfull onoverflow"},
	{"name", "id label title alias"},
	// of the sections
	{"url", "urls server servers host hostname address addr uri endpoint brokerurl serveruri brokers"},
	{"client_id", "id client"},
	{"username", "user login"},
	{"password", "pass passwd pwd"},
	{"keep_alive", "ping pinginterval heartbeat"},
	{"protocol", "version mqttversion protocolversion mqttprotocol protocollevel mqtt5 v5"},
	{"session", "persistent persistentsession"},
	{"session_expiry", "expiry sessionexpiryinterval sessionexpirytime expiryinterval persistentclientexpiration"},
	{"status_topic", "will willtopic lwt lastwill birth birthtopic availability availabilitytopic"},
	{"max_in_flight", "inflight maxinflightmessages receivemaximum maxpending"},
	{"max_subscriptions", "maxsubs subscriptionlimit"},
	{"max_rate", "publishrate messagerate ratelimit messagespersecond publishlimit throttle"},
	{"topic_aliases", "topicalias alias aliases topicaliasmaximum maxtopicalias"},
	{"max_packet", "maxpacketsize maximumpacketsize maxmessagesize maxpayload messagesizelimit"},
	{"ca_file", "ca cacert cacerts cacertfile cafilepath castore tlsca rootca trustedca capath"},
	{"cert_file", "cert certificate certificatefile clientcert clientcertfile crt tlscert"},
	{"key_file", "key privatekey privatekeyfile clientkey tlskey"},
	{"server_name", "sni tlsservername"},
	{"dir", "path folder directory location"},
	{"max_size", "size limit maxbytes"},
	{"size", "maxsize memory limit maxbytes"},
	{"listen", "bind addr address httpaddr listenaddress listenaddr path file"},
	{"level", "verbosity severity loglevel verbose debug"},
	{"format", "logformat encoding style"},
	// the sections
	{"broker", "mqtt server brokers connection mqttbroker mqttserver"},
	{"spool", "storage store persistence disk diskbuffer"},
	{"web", "http httpserver metrics prometheus api admin dashboard"},
	{"control", "ctl ipc controlsocket socket"},
	{"log", "logging logger logs"},
	{"send", "sends sender senders output outputs publish sink sinks egress mqtttoudp mqtttomulticast tomulticast"},
	{"receive", "receives receiver receivers input inputs ingress listeners udptomqtt multicasttomqtt frommulticast"},
}

// notKeys are words for what is written in another way here, each with how. Where
// is the key or the section that tells which table it is about.
var notKeys = []struct{ where, words, hint string }{
	{"group", "port dport dstport destport destinationport targetport udpport groupport multicastport", portOfGroup},
	{"group", "enabled disabled disable active", "a rule that is not to work is commented out, or taken out"},
	{"url", "port", "the port belongs to url, as in url: mqtt://192.0.2.10:1883"},
	{"url", "ssl", "write url: mqtts://…, or wss://…"},
	{"url", "cleansession cleanstart clean", "write session: clean, or session: persistent"},
	{"ca_file", "insecure skipverify insecureskipverify tlsinsecure verify rejectunauthorized", "the broker's certificate is always verified: name the authority that signed it in ca_file"},
	{"listen", "port httpport", "the port belongs to listen, as in listen: 127.0.0.1:9479"},
	{"send", "rules rule routes route mappings mapping bridges bridge flows", "the rules from MQTT to the network are a list below send, those from the network to MQTT one below receive"},
}

const portOfGroup = `the port belongs to group, as in group: "239.1.2.3:5000"`

// plainWord returns a word without separators, in lower case: iface of
// I-Face, sourceip of source_ip and sourceIP.
func plainWord(s string) string { return strings.ToLower(separators.Replace(s)) }

// separators are made once: a replacer takes longer to make than it is in use, and there may
// be a word for each of thousands of rules.
var separators = strings.NewReplacer("_", "", "-", "", ".", "", " ", "")

// Meant returns the one of names that a word was meant to be: what other programs call it,
// the same word parted otherwise, or one that differs little; "" if there is none.
func Meant(word string, names []string) string {
	return cmp.Or(called(word, names), nearest(word, names))
}

// called is Meant without the words that differ only a little.
func called(word string, names []string) string {
	plain := plainWord(word)
	for _, name := range names {
		if plainWord(name) == plain {
			return name
		}
	}
	for _, w := range otherWords {
		if !slices.Contains(strings.Fields(w.words), plain) {
			continue
		}
		for _, name := range names {
			if plainWord(name) == plainWord(w.key) {
				return name
			}
		}
	}
	return ""
}

// suggestKey returns the key that one that is not known was meant to be, "" if
// none is near, and says so.
func suggestKey(key string, s *section) (meant, hint string) {
	names := s.names()
	for _, not := range notKeys {
		if s.field(not.where) != nil && slices.Contains(strings.Fields(not.words), plainWord(key)) {
			return "", not.hint
		}
	}
	path := byPath(key)
	if strings.Contains(key, ".") && path != "" {
		dot := strings.LastIndex(path, ".")
		return "", "write " + path[dot+1:] + " below " + path[:dot] + ", indented"
	}
	if meant = called(key, names); meant == "" && path == "" {
		meant = nearest(key, names)
	}
	if meant != "" {
		return meant, "did you mean " + meant + "?"
	}
	if f := schema().field(path); f != nil && f.section != nil {
		return "", path + " is a part of the file itself: write it without indentation"
	}
	if path = cmp.Or(path, elsewhere(key, schema())); path != "" {
		return "", "did you mean " + path + "?"
	}
	return "", "the keys here are " + strings.Join(names, ", ")
}

func (s *section) names() []string {
	names := make([]string, len(s.fields))
	for i := range s.fields {
		names[i] = s.fields[i].key
	}
	return names
}

// elsewhere returns the path of a key of any section that has this name here or in
// other programs.
func elsewhere(key string, s *section) string {
	if path := search(s, func(at *section) string {
		if at.field(key) != nil {
			return key
		}
		return ""
	}); path != "" {
		return path
	}
	return search(s, func(at *section) string {
		plain := plainWord(key)
		for _, w := range otherWords {
			if at.field(w.key) != nil && slices.Contains(strings.Fields(w.words), plain) {
				return w.key
			}
		}
		return ""
	})
}

// search returns the path of the first section or list below s in which find finds a key.
func search(s *section, find func(at *section) string) string {
	for i := range s.fields {
		f := &s.fields[i]
		if f.section == nil {
			continue
		}
		path := f.path
		if f.list {
			path += "[]"
		}
		if key := find(f.section); key != "" {
			return path + "." + key
		}
		if path := search(f.section, find); path != "" {
			return path
		}
	}
	return ""
}

// byPath returns the path of a key that was written with its section in front of it:
// log_level, broker.url.
func byPath(key string) string {
	plain, path := plainWord(key), ""
	var walk func(s *section)
	walk = func(s *section) {
		for i := range s.fields {
			f := &s.fields[i]
			if plainWord(f.path) == plain {
				path = f.path
			}
			if f.section != nil && !f.list {
				walk(f.section)
			}
		}
	}
	walk(schema())
	return path
}
