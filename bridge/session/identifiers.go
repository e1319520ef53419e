package session

// Packet identifiers are shared out, so that an answer of the broker says by its
// identifier alone who it is for, and two that ask never meet [MQTT-2.3.1-2]:
//
//	0x0001 to 0x3fff  SUBSCRIBE and UNSUBSCRIBE
//	0x4000 to 0x43ff  publications of QoS 2, in their order
//	0x7ffe, 0x7fff    the status messages, each once on a connection
//	0x8000 to 0xffff  publications of QoS 1, in their order
const (
	requestIDs         = 0x3fff
	onlineID           = 0x7ffe
	offlineID          = 0x7fff
	firstPublicationID = 0x8000
	publicationIDs     = 0x8000

	// maxWindow is the most publications that may await an acknowledgement: one
	// less than there are identifiers, so that an identifier rests between two uses.
	maxWindow = publicationIDs - 1
)

// idRange is a range of packet identifiers; n is a power of two.
type idRange struct {
	first uint16
	n     uint64
}

// The identifiers of publications, by QoS.
var (
	qos1IDs = idRange{firstPublicationID, publicationIDs}
	qos2IDs = idRange{0x4000, 0x400}
)

// of is the identifier of the publication with a number.
func (r idRange) of(n uint64) uint16 { return r.first | uint16(n&(r.n-1)) }

func (r idRange) has(id uint16) bool { return id >= r.first && uint64(id-r.first) < r.n }
