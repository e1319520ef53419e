"""The script that one writes first: paho-mqtt, a socket bound to each source.

The environment says what goes where; see traffic.env in payload.go.
"""
import ipaddress
import os
import socket
import struct
import sys

import paho.mqtt.client as mqtt

QOS = int(os.environ["QOS"])
GROUPS, SOURCES = int(os.environ["GROUPS"]), int(os.environ["SOURCES"])
GROUP = ipaddress.IPv4Address(os.environ["GROUP"])
GROUP_PORT = int(os.environ["GROUP_PORT"])
SOURCE = ipaddress.IPv4Address(os.environ["SOURCE"])
INTERFACE = socket.inet_aton(os.environ["INTERFACE"])


def new_client():
    # Version 2 of the library asks which callbacks are meant.
    if hasattr(mqtt, "CallbackAPIVersion"):
        return mqtt.Client(mqtt.CallbackAPIVersion.VERSION1)
    return mqtt.Client()


def send(client):
    sockets = []
    for i in range(SOURCES):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((str(SOURCE + i), 0))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, (SOURCE + i).packed)
        sockets.append(s)
    targets = [(sockets[i % SOURCES], (str(GROUP + i), GROUP_PORT)) for i in range(GROUPS)]
    first, address = targets[0]

    def to_one_group(client, userdata, message):
        first.sendto(message.payload, address)

    def to_many_groups(client, userdata, message):
        s, to = targets[int(message.topic.split("/")[1]) % GROUPS]
        s.sendto(message.payload, to)

    client.on_connect = lambda client, userdata, flags, rc: client.subscribe("dev/#", QOS)
    client.on_message = to_one_group if GROUPS == 1 else to_many_groups
    client.connect(os.environ["BROKER"], int(os.environ["PORT"]))
    client.loop_forever()


def receive(client):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((str(GROUP) if GROUPS == 1 else "", GROUP_PORT))
    for i in range(GROUPS):
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, struct.pack("4s4s", (GROUP + i).packed, INTERFACE))
    client.max_inflight_messages_set(1000)
    client.connect(os.environ["BROKER"], int(os.environ["PORT"]))
    client.loop_start()
    while True:
        payload, _ = s.recvfrom(2048)
        client.publish(os.environ["TOPIC"], payload, QOS)


{"send": send, "receive": receive}[sys.argv[1]](new_client())
