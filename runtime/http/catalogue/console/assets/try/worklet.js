// Runs where sound is made: hands each block of the microphone's samples on.
class Tap extends AudioWorkletProcessor {
  process([input]) {
    const [channel] = input;
    if (channel?.length) this.port.postMessage(channel.slice());
    return true;
  }
}

registerProcessor("tap", Tap);
