;;; rlm-context.el --- What a question is about  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; Text goes to the server by path, never through Emacs's memory where
;; that can be helped.  A buffer whose file says the same goes as that
;; file; a region, a narrowed buffer or one with unsaved changes is
;; spooled to a private directory first.
;;
;; An `rlm-context' is what comes out: its sources and overlays are
;; plists in the words of the protocol.

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'rlm-server)

(declare-function project-root "project" (project))

(cl-defstruct (rlm-context (:constructor rlm-context--make)
                           (:constructor rlm-context-blank () "Return a context of nothing.")
                           (:copier nil))
  "What a question is about."
  (label "" :documentation "What it is, in a few words.")
  (sources nil :documentation "List of sources, plists as in the protocol.")
  (overlays nil :documentation "List of overlays, plists as in the protocol.")
  (spool nil :documentation "Private directory of spooled text, or nil.")
  (project nil :documentation "Name of the project, or nil.")
  (host nil :documentation "Where the server is that reads it: nil, or a beginning for TRAMP.")
  (maker nil :documentation "Function that makes it anew, as it is then."))

(defun rlm-context-make (label &optional place)
  "Return a context called LABEL that has nothing in it.
It is read where PLACE is, a file or directory; by default where the current
buffer is."
  (rlm-context--make :label label :project (rlm-context--project-name)
                     :host (rlm-server-host-of (or place default-directory))))

;;;; Spooling

(defmacro rlm-context-spooling (context &rest body)
  "Return CONTEXT after evaluating BODY; if that fails, leave no spool behind."
  (declare (indent 1) (debug t))
  (let ((done (make-symbol "done")))
    `(let (,done)
       (unwind-protect
           (prog1 (progn ,@body ,context)
             (setq ,done t))
         (unless ,done
           (rlm-context-release ,context))))))

(defvar rlm-context--spools nil
  "Spool directories that exist.")

(defun rlm-context--spool-file (context)
  "Return the name of a new file in the spool directory of CONTEXT."
  (unless (rlm-context-spool context)
    ;; `make-temp-file' makes directories that only their owner can enter.
    (setf (rlm-context-spool context)
          (if-let ((host (rlm-context-host context)))
              (let ((default-directory (concat host "/")))
                (make-nearby-temp-file "rlm-" t))
            (make-temp-file "rlm-" t)))
    (set-file-modes (rlm-context-spool context) #o700)
    (push (rlm-context-spool context) rlm-context--spools)
    (add-hook 'kill-emacs-hook #'rlm-context-release-all))
  (make-temp-file (expand-file-name "text-" (rlm-context-spool context))))

(defun rlm-context-spool-region (context beg end)
  "Write the current buffer's text from BEG to END for CONTEXT.
Return the file's name."
  (let ((file (rlm-context--spool-file context))
        (coding-system-for-write 'utf-8-emacs-unix)
        (write-region-inhibit-fsync t)
        (write-region-annotate-functions nil)
        (write-region-post-annotation-function nil)
        (buffer-file-format nil))
    (save-restriction
      (widen)
      (write-region beg end file nil 'silent))
    file))

(defun rlm-context-add-text (context name text)
  "Add TEXT to CONTEXT as a document called NAME."
  (let ((origin (concat "rlm-buffer:" (buffer-name))))
    (with-temp-buffer
      (insert text)
      (setf (rlm-context-sources context)
            (append (rlm-context-sources context)
                    (list (list :kind "file"
                                :path (rlm-context-spool-region context (point-min) (point-max))
                                :name (rlm-context-plain-name name)
                                :origin origin)))))))

(defun rlm-context-release (context)
  "Delete what was spooled for CONTEXT."
  (when-let ((spool (rlm-context-spool context)))
    (setf (rlm-context-spool context) nil)
    (setq rlm-context--spools (delete spool rlm-context--spools))
    (ignore-errors (delete-directory spool t))))

(defun rlm-context-again (context)
  "Return what CONTEXT is, but as it is now: what was spooled may be gone."
  (funcall (rlm-context-maker context)))

(defun rlm-context-made-by (context function)
  "Let FUNCTION, called in the current buffer, make CONTEXT anew; return it.
Where the buffer is gone, FUNCTION is called in another one, with nil."
  (let ((buffer (current-buffer)))
    (setf (rlm-context-maker context)
          (lambda ()
            (if (buffer-live-p buffer)
                (with-current-buffer buffer (funcall function t))
              (funcall function nil)))))
  context)

(defun rlm-context--check-live (live)
  "Signal an error unless the buffer that was asked about is LIVE."
  (unless live
    (user-error "The buffer that the question was about is gone")))

(defun rlm-context-release-all ()
  "Delete everything that is spooled."
  (dolist (spool rlm-context--spools)
    (ignore-errors (delete-directory spool t)))
  (setq rlm-context--spools nil))

;;;; Buffers and regions

(defun rlm-context-check-region (beg end)
  "Signal an error unless the text from BEG to END can be asked about."
  (when (= beg end)
    (user-error "The region is empty"))
  (unless (rlm-context-text-p beg end)
    (user-error "The region holds nothing but blanks")))

(defun rlm-context-check-buffer ()
  "Signal an error unless the current buffer can be asked about."
  (unless (rlm-context-text-p (point-min) (point-max))
    (user-error (if (buffer-narrowed-p)
                    "The visible part of the buffer is empty"
                  "The buffer is empty"))))

(defun rlm-context-text-p (beg end)
  "Return non-nil if there is more than blanks from BEG to END."
  (save-excursion
    (goto-char beg)
    (skip-chars-forward " \t\n\r\f" end)
    (< (point) end)))

(defun rlm-context-of-region (beg end)
  "Return the current buffer's text from BEG to END as a context."
  (rlm-context-check-region beg end)
  (let ((from (copy-marker beg))
        (to (copy-marker end)))
    (rlm-context-made-by
     (rlm-context--of-part beg end (format "region of %s" (buffer-name)))
     (lambda (live)
       (rlm-context--check-live live)
       (save-restriction
         (widen)
         (rlm-context-of-region from to))))))

(defun rlm-context-of-buffer ()
  "Return the visible part of the current buffer as a context."
  (rlm-context-check-buffer)
  (let ((file (rlm-context--file-that-says-the-same)))
    (rlm-context-made-by
     (if file
         (let ((context (rlm-context-make (buffer-name) file)))
           (setf (rlm-context-sources context) (list (rlm-context-file file)))
           context)
       (rlm-context--of-part (point-min) (point-max)
                             (format (if (buffer-narrowed-p) "visible part of %s" "%s")
                                     (buffer-name))))
     (lambda (live)
       (rlm-context--check-live live)
       (rlm-context-of-buffer)))))

(defun rlm-context--of-part (beg end label)
  "Return the text from BEG to END, spooled, as a context called LABEL."
  (let ((context (rlm-context-make label)))
    (rlm-context-spooling context
      (setf (rlm-context-sources context)
            (list (rlm-context-part-source context beg end))))))

(defun rlm-context-part-source (context beg end)
  "Return the text from BEG to END, spooled for CONTEXT, as a source."
  (list :kind "file"
        :path (rlm-context-spool-region context beg end)
        :name (rlm-context-name)
        :origin (rlm-context-origin (rlm-context-host context))
        :firstLine (save-restriction
                     (widen)
                     (line-number-at-pos beg))))

(defun rlm-context-visited ()
  "Return the name of the current buffer's file, or nil."
  (buffer-file-name (or (buffer-base-buffer) (current-buffer))))

(defun rlm-context-name ()
  "Return what the model shall call the current buffer."
  (let ((file (rlm-context-visited)))
    (if file
        (file-name-nondirectory file)
      (rlm-context-plain-name (buffer-name)))))

(defun rlm-context-plain-name (name)
  "Return NAME, that of a buffer or a page, such as can stand in a sentence.
An answer names a place as NAME:LINE."
  (let ((plain (string-trim (replace-regexp-in-string "[^[:alnum:]._+-]+" "-" name)
                            "-+" "-+")))
    (if (string-empty-p plain) "buffer" plain)))

(defun rlm-context-origin (&optional host)
  "Return where evidence in the current buffer points to: a file or a URI.
HOST is where the server is, nil for this machine."
  (let ((file (rlm-context-visited)))
    (if (and file (equal host (file-remote-p file)))
        (expand-file-name file)
      (concat "rlm-buffer:" (buffer-name)))))

(defun rlm-context--file-that-says-the-same ()
  "Return the name of the file whose text is the visible text, or nil."
  (let ((file (buffer-file-name)))
    (and file
         (not (buffer-modified-p))
         (not (buffer-narrowed-p))
         (rlm-context-plain-p file (rlm-server-host-of file))
         (verify-visited-file-modtime)
         (memq (coding-system-type (or buffer-file-coding-system 'undecided))
               '(utf-8 undecided))
         (expand-file-name file))))

(defun rlm-context-file (file &optional name)
  "Return FILE as a source called NAME."
  `(:kind "file" :path ,file ,@(when name (list :name name))))

(defun rlm-context-plain-p (file &optional host)
  "Return non-nil if a server on HOST can read FILE as it is.
Then it is there, and no handler has to decode it.  HOST is nil for this
machine."
  (and (equal host (file-remote-p file))
       (not (find-file-name-handler (file-local-name file) 'insert-file-contents))
       (file-regular-p file)
       (file-readable-p file)))

(defun rlm-context--project-name ()
  "Return the name of the project that the current buffer belongs to, or nil."
  (and (equal (rlm-server-host-of default-directory) (file-remote-p default-directory))
       (when-let ((project (ignore-errors (project-current))))
         (file-name-nondirectory (directory-file-name (project-root project))))))

(provide 'rlm-context)
;;; rlm-context.el ends here
