/** How much there may be of something: in a while, and at the same time. */
"use strict";

const { LIMITS } = require("./settings");

/** A token bucket: `atOnce` at the start, and `perSecond` more from then on. */
class Bucket {
  constructor(perSecond, atOnce) {
    Object.assign(this, { perSecond, atOnce, left: atOnce, at: performance.now() });
  }

  take(amount = 1) {
    const now = performance.now();
    this.left = Math.min(this.atOnce, this.left + ((now - this.at) / 1000) * this.perSecond);
    this.at = now;
    if (this.left < amount) return false;
    this.left -= amount;
    return true;
  }

  get isFull() {
    return this.left + ((performance.now() - this.at) / 1000) * this.perSecond >= this.atOnce;
  }
}

/** One bucket for each address, worker or agent. */
class Buckets {
  constructor(perSecond, atOnce) {
    Object.assign(this, { perSecond, atOnce, byKey: new Map() });
    setInterval(() => {
      for (const [key, bucket] of this.byKey) if (bucket.isFull) this.byKey.delete(key);
    }, 60_000).unref();
  }

  take(key) {
    let bucket = this.byKey.get(key);
    if (!bucket) {
      this.byKey.set(key, (bucket = new Bucket(this.perSecond, this.atOnce)));
      if (this.byKey.size > LIMITS.addresses) this.byKey.delete(this.byKey.keys().next().value);
    }
    return bucket.take();
  }
}

/** How many there are of each key now. */
class Counts {
  constructor(most) {
    Object.assign(this, { most, byKey: new Map() });
  }

  /** Count one more, and return what counts it as gone (once); null if there are too many. */
  enter(key) {
    const count = this.byKey.get(key) ?? 0;
    if (count >= this.most) return null;
    this.byKey.set(key, count + 1);
    let hasLeft = false;
    return () => {
      if (hasLeft) return;
      hasLeft = true;
      const left = this.byKey.get(key) - 1;
      if (left > 0) this.byKey.set(key, left);
      else this.byKey.delete(key);
    };
  }
}

module.exports = { Bucket, Buckets, Counts };
