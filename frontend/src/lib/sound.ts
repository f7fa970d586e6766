/** A soft sound on a new reply, made on the spot. Whether it is on is remembered. */

const KEY = "model-chat:sound";

export function isSoundOn(): boolean {
  try {
    return localStorage.getItem(KEY) !== "off";
  } catch {
    return true;
  }
}

export function setSoundOn(on: boolean): void {
  try {
    localStorage.setItem(KEY, on ? "on" : "off");
  } catch {
    // not remembered, that's all
  }
}

let context: AudioContext | null = null;

/** Two short tones, rising, very quiet. Browsers keep silent until the worker has done something on the page. */
export function playReplySound(): void {
  if (typeof AudioContext === "undefined") return;
  // Without a gesture the tones would be kept, and sound at the first click instead.
  if ("userActivation" in navigator && !navigator.userActivation.hasBeenActive) return;
  try {
    context ??= new AudioContext();
    if (context.state === "suspended") void context.resume();
    tone(context, 587.33, 0, 0.16);
    tone(context, 880, 0.1, 0.26);
  } catch {
    // no sound device
  }
}

function tone(audio: AudioContext, frequency: number, delay: number, duration: number): void {
  const start = audio.currentTime + delay;
  const oscillator = audio.createOscillator();
  const volume = audio.createGain();
  oscillator.type = "sine";
  oscillator.frequency.value = frequency;
  volume.gain.setValueAtTime(0.0001, start);
  volume.gain.exponentialRampToValueAtTime(0.06, start + 0.03);
  volume.gain.exponentialRampToValueAtTime(0.0001, start + duration);
  oscillator.connect(volume).connect(audio.destination);
  oscillator.start(start);
  oscillator.stop(start + duration);
}
