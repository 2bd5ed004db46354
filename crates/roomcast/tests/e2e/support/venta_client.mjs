// Venta's own client, word for word as its team has it, in TypeScript; what only the compiler reads is taken out before it is run.

import { WebSocket } from "ws";

const SOURCE = `
class VentaWebSocketClient {
  private socket: WebSocket;
  private reconnectAttempts = 0;
  private maxReconnectAttempts = 5;

  constructor(private url: string) {
    this.connect();
  }

  private connect() {
    this.socket = new WebSocket(this.url);
    
    this.socket.onopen = () => {
      console.log('Connected to WebSocket');
      this.reconnectAttempts = 0;
    };

    this.socket.onmessage = (event) => {
      const data = JSON.parse(event.data);
      this.handleMessage(data);
    };

    this.socket.onclose = () => {
      console.log('WebSocket connection closed');
      this.handleReconnect();
    };

    this.socket.onerror = (error) => {
      console.error('WebSocket error:', error);
    };
  }

  private handleReconnect() {
    if (this.reconnectAttempts < this.maxReconnectAttempts) {
      this.reconnectAttempts++;
      setTimeout(() => this.connect(), 1000 * this.reconnectAttempts);
    }
  }

  private handleMessage(data: any) {
    switch (data.type) {
      case 'location_updated':
        this.onLocationUpdate(data.data);
        break;
      case 'vendor_updated':
        this.onVendorUpdate(data.data);
        break;
      case 'ping':
        this.socket.send(JSON.stringify({ type: 'pong' }));
        break;
    }
  }

  subscribeToLocation(vendorId: string, userId: string) {
    this.socket.send(JSON.stringify({
      type: 'subscribe_location',
      data: { vendorId, userId }
    }));
  }

  onLocationUpdate(data: any) {
    console.log('Location updated:', data);
    // Handle location update
  }

  onVendorUpdate(data: any) {
    console.log('Vendor updated:', data);
    // Handle vendor update
  }
}
`;

/** The class, with a console of the test's; `opened` are its sockets, the newest last. */
export function ventaClient(log) {
  const script = SOURCE.replace("constructor(private url: string) {", "constructor(url) { this.url = url;")
    .replace("  private socket: WebSocket;\n", "")
    .replaceAll("private ", "")
    .replaceAll(/: (string|any)\b/g, "");
  const opened = [];
  class Watched extends WebSocket {
    constructor(...parts) {
      super(...parts);
      opened.push(this);
    }
  }
  const build = new Function("WebSocket", "console", `"use strict"; ${script} return VentaWebSocketClient;`);
  return { VentaWebSocketClient: build(Watched, { log, error: log }), opened };
}
