// Marketplace's front ends, word for word as its teams have them; only the address is the test's, and what the TypeScript compiler alone reads is
// taken out. What their frameworks do for them (state, the component's life, observables) is done here, as far as they use it.

import { io } from "socket.io-client";

const ADDRESS = "ws://localhost:8009";

const REACT = `
function useWebSocket(token) {
  const [socket, setSocket] = useState(null);
  const [connected, setConnected] = useState(false);

  useEffect(() => {
    const socketInstance = io('ws://localhost:8009', {
      auth: { token }
    });

    socketInstance.on('connected', (data) => {
      console.log('Connected:', data);
      setConnected(true);
    });

    socketInstance.on('order:status_updated', (data) => {
      // Handle order update
      showNotification(data.message);
    });

    socketInstance.on('disconnect', () => {
      setConnected(false);
    });

    setSocket(socketInstance);

    return () => {
      socketInstance.close();
    };
  }, [token]);

  return { socket, connected };
}
`;

const VUE = `
export default {
  data() {
    return {
      socket: null,
      connected: false
    };
  },
  mounted() {
    this.socket = io('ws://localhost:8009', {
      auth: { token: this.$store.state.auth.token }
    });

    this.socket.on('connected', (data) => {
      this.connected = true;
    });

    this.socket.on('inventory:low_stock_alert', (data) => {
      this.$notify({
        title: 'Low Stock Alert',
        message: data.message,
        type: 'warning'
      });
    });
  },
  beforeDestroy() {
    if (this.socket) {
      this.socket.close();
    }
  }
};
`;

const ANGULAR = `
@Injectable({ providedIn: 'root' })
export class WebSocketService {
  private socket: Socket;

  connect(token: string): void {
    this.socket = io('ws://localhost:8009', {
      auth: { token }
    });
  }

  onOrderUpdate(): Observable<any> {
    return new Observable(observer => {
      this.socket.on('order:status_updated', (data) => {
        observer.next(data);
      });
    });
  }

  disconnect(): void {
    if (this.socket) {
      this.socket.close();
    }
  }
}
`;

const run = (names, source) => new Function(...names, `"use strict"; ${source}`);

/** The hook in a component that is shown: `told` gets what it notifies of; `rendered` gives what the hook gives now. */
export function reactClient(url, token, told) {
  const states = [];
  let place = 0;
  let leave;
  const useState = (first) => {
    const index = (place += 1) - 1;
    if (index === states.length) states.push(first);
    return [states[index], (value) => (states[index] = value)];
  };
  // Its only dependency stays as it is: it runs when the component is first shown.
  const useEffect = (effect) => (leave ??= effect());
  const build = run(["io", "useState", "useEffect", "showNotification", "console"], `${REACT.replace(ADDRESS, url)} return useWebSocket;`);
  const useWebSocket = build(io, useState, useEffect, told, { log() {} });
  const rendered = () => {
    place = 0;
    return useWebSocket(token);
  };
  rendered();
  return { rendered, unmount: () => leave() };
}

/** The component as it is mounted. */
export function vueClient(url, token, told) {
  const component = run(["io"], VUE.replace(ADDRESS, url).replace("export default", "return"))(io);
  const shown = Object.assign(Object.create(component), component.data(), { $store: { state: { auth: { token } } }, $notify: told });
  shown.mounted();
  return shown;
}

/** The service. */
export function angularClient(url) {
  class Observable {
    constructor(subscribe) {
      this.subscribe = (next) => subscribe({ next });
    }
  }
  const script = ANGULAR.replace(ADDRESS, url)
    .replace("@Injectable({ providedIn: 'root' })\nexport class", "return class")
    .replace("  private socket: Socket;\n", "")
    .replaceAll(/: (string|void|Observable<any>)/g, "");
  return new (run(["io", "Observable"], script)(io, Observable))();
}
