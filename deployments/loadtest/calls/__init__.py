"""What is sent, and what a right answer is: calls of the functions that a server says it has, made
from their examples, from rows given, or from recorded traffic. Plain data; nothing is sent here.
May import what is recorded (``results``) and the engine's protocol.
"""
